"""Convolution as a walk over nonzeros: a broadcast weight against vectors of pixels (ENGINE.md 3.5: K1, K2, K4, K7).

    for panel of R output channels, tile of V vectors of pixels:
        acc[r][v] = bias[r]
        for pattern in patterns:                               # which of the R rows are nonzero
            repeat count[panel][pattern]:
                x += delta[i++] unit                           # the next input position of this pattern
                for r in pattern:  acc[r][v] += weight[j++] x[v]
        y[r][v] = activation(acc[r][v] + residual[r][v])

One template serves every format. Blocks (1xN) have R = N and one pattern, all rows; dense weights too, with one list
of positions shared by all panels; unstructured weights have the 2^R - 1 patterns of R rows. Where hardly any position
is shared the R rows walk in lockstep instead, each over its own positions, without patterns or branches:

    repeat longest row of the panel:   for r in rows:  x[r] += delta[i++] unit;  acc[r][v] += weight[i] x[r][v]

Unstructured 8-bit weights, and 1xN blocks of them, do not leave out whole quads. There `x` points to planes of bytes,
and quads are put together on the way, from any four positions (conv_bytes):

    repeat count[panel][block of rows]:  q = interleave(x[place[i++]], .. four times);  for r in block:  acc[r] += w q

What `x` points to is the primitive: the input itself, its im2col matrix, or a tile that was packed into this thread's
scratch memory. What is multiplied are floats, pairs of bf16 numbers (emit.pairs), or quads of 8-bit integers
(emit.integers), whose sums are requantized at the end (kernels.requantize).

Sources: Park et al. 2017 (offsets instead of indices); Wilkinson, Cheshmi & Mehri Dehnavi 2023 (patterns).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from secateur.engine.emit.builder import I32, I64, PTR, KernelBody, KernelModule, Value
from secateur.engine.emit.byte_planes import TOGETHER, apart
from secateur.engine.emit.integers import as_floats, load_quads
from secateur.engine.kernels.conv_body import ConvBody
from secateur.engine.kernels.conv_bytes import accumulate_bytes
from secateur.engine.kernels.conv_ends import Ends
from secateur.engine.kernels.conv_form import PANEL_FIELDS, TILE_FIELDS, UNIT_FIELDS, ConvForm
from secateur.engine.kernels.conv_sums import Sums


@dataclass(frozen=True)
class ConvKernel(ConvForm):
    """Kernel of a convolution over tiles and panels."""

    def emit(self, module: KernelModule) -> None:
        """Write the kernel."""
        with module.kernel(self.name, self.fields) as body:
            _Writer(self, body).units()


class _Writer:
    """The loops over units, tiles and panels."""

    def __init__(self, kernel: ConvKernel, body: KernelBody) -> None:
        self.f, self.kernel = body, kernel
        self.body = ConvBody(kernel, body)
        self.pointers = self.body.pointers
        self.sums, self.ends = Sums(self.body), Ends(self.body)
        if kernel.packed:
            self.packed_key = body.var(I64, body.i64(-1))

    def units(self) -> None:
        """for unit in [begin, end): its panels on its tile."""
        f, kernel = self.f, self.kernel
        with f.loop(f.begin, f.end) as index:
            record = f.element(self.pointers["units"], f.b.mul(index, f.i64(len(UNIT_FIELDS))), I32)
            unit = {name: f.load_i64(record, i, I32) for i, name in enumerate(UNIT_FIELDS)}
            at = f.element(self.pointers["tiles"], f.b.mul(unit["tile"], f.i64(len(TILE_FIELDS))), I64)
            tile = {name: f.load_i64(at, i) for i, name in enumerate(TILE_FIELDS)}
            if len(kernel.vectors) == 1:
                self.tile(unit, tile, kernel.vectors[0])
            for i, vectors in enumerate(kernel.vectors if len(kernel.vectors) > 1 else ()):
                with f.if_(f.b.icmp_signed("==", tile["size"], f.i64(i))):
                    self.tile(unit, tile, vectors)

    def tile(self, unit: dict[str, Value], tile: dict[str, Value], vectors: int) -> None:
        """The panels of one unit on a tile of a known size."""
        f, kernel = self.f, self.kernel
        base = f.at(self.pointers["x"], tile["x"])
        masks = []
        if self.kernel.masked:
            masks = [f.mask_bits(self.pointers["masks"], f.b.add(tile["mask"], f.i64(v))) for v in range(vectors)]
        if self.kernel.packed:
            self.pack(unit, base, vectors)
            base = f.scratch
        with f.loop(unit["panel_begin"], unit["panel_end"]) as panel:
            record = f.element(self.pointers["panels"], f.b.mul(panel, f.i64(self.kernel.panel_words)), I32)
            start = {name: f.load_i64(record, i, I32) for i, name in enumerate(PANEL_FIELDS)}
            y = f.at(self.pointers["y"], tile["y"])
            self.prefetch_outputs(tile, start["row"], y, vectors)
            acc = self.sums.start(start["row"], y, vectors)
            if kernel.of_bytes:
                accumulate_bytes(self.sums, record, start, base, acc)
            elif kernel.patterns:
                self.sums.accumulate(record, start, base, acc)
            else:
                self.sums.accumulate_in_lockstep(record, start, base, acc)
            if self.body.results and self.body.quads:
                self.ends.store_quads(self.body.results, tile, start["row"], y, acc, masks, vectors)
            else:
                self.ends.finish(tile, start["row"], y, acc, masks, vectors)

    def pack(self, unit: dict[str, Value], base: Value, vectors: int) -> None:
        """Copy the tile's input vectors of the unit's positions to scratch, unless they are there."""
        f = self.f
        pack_begin = f.b.add(unit["pack_begin"], f.integer("pack_shift"))
        full = f.b.add(pack_begin, f.integer("pack_most"))
        pack_end = f.b.select(f.b.icmp_signed("<", full, unit["pack_end"]), full, unit["pack_end"])
        key = f.b.add(f.b.shl(unit["tile"], f.i64(32)), pack_begin)
        with f.if_(f.b.icmp_signed("!=", key, self.packed_key.get())):
            self.packed_key.set(key)
            target = f.var(PTR, f.scratch)
            with f.loop(pack_begin, pack_end) as position:
                source = f.at(base, f.load_i64(self.pointers["pack_offsets"], position, I32, signed=True))
                for v, copy in enumerate(self.packed_vectors(source, vectors)):
                    f.store(copy, target.get(), v * f.lanes, align=self.body.width)
                target.set(f.at(target.get(), self.body.unit))

    def packed_vectors(self, source: Value, vectors: int) -> Iterator[Value]:
        """What is kept of a position: its vectors, or the bytes of its four channels."""
        f = self.f
        if self.kernel.of_bytes:
            quads = [load_quads(f, source, v * f.lanes) for v in range(TOGETHER)]
            yield from (as_floats(f, plane) for plane in apart(f, quads))
        else:
            yield from (f.load(source, v * f.lanes) for v in range(vectors))

    def prefetch_outputs(self, tile: dict[str, Value], row: Value, y: Value, vectors: int) -> None:
        """Ask for the lines that the panel's end will add to and write, while its sums are computed."""
        f = self.f
        if not self.kernel.prefetch:
            return
        # For writing: a line that is only read would have to be asked for again when it is stored.
        for r in range(0, self.kernel.rows, 4 if self.body.quads else 1):
            place = self.body.row_address(row, r)
            for v in range(vectors):
                f.prefetch(f.at(f.at(y, place), v * self.body.width), write=True)
                if self.kernel.residual:
                    f.prefetch(f.at(self.body.residual_row(tile, row, r, place), v * self.body.width))
