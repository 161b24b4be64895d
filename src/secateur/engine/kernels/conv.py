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

What `x` points to is the primitive: the input itself, its im2col matrix, or a tile that was packed into this thread's
scratch memory. What is multiplied are floats, pairs of bf16 numbers (emit.pairs), or quads of 8-bit integers
(emit.integers), whose sums are requantized at the end (kernels.requantize).

Sources: Park et al. 2017 (offsets instead of indices); Wilkinson, Cheshmi & Mehri Dehnavi 2023 (patterns).
"""

from dataclasses import dataclass

from llvmlite import ir

from secateur.engine.emit.activations import activate, symbol
from secateur.engine.emit.builder import F32, I16, I32, I64, PTR, KernelBody, KernelModule, Value, Var
from secateur.engine.emit.integers import dot
from secateur.engine.emit.pairs import pair_dot
from secateur.engine.kernels.requantize import INTEGERS, Requantize, Results
from secateur.graph.ir import Activation

# Columns of the tables that kernels read; `secateur.engine.lowering.tiles` writes them.
TILE_FIELDS = ("x", "y", "residual", "mask", "size")  # i64: bytes, bytes, bytes, vectors, index into `vectors`
UNIT_FIELDS = ("tile", "panel_begin", "panel_end", "pack_begin", "pack_end")  # i32
PANEL_FIELDS = ("x", "delta", "weight", "row", "ahead")  # i32: units, indices, units; then one count per pattern
# Positions between a prefetch and its use: a tile's inputs lie in L2 or further, one plane apart, which no hardware
# prefetcher follows (8 measured best on Cascade Lake, 8 to 15 % over none).
AHEAD = 8

FIELDS = (
    *("x", "y", "residual", "bias", "units", "tiles", "panels", "deltas", "weights", "rows", "masks", "unit"),
    *("pack_offsets", "slope", "first", "last", "pack_shift", "pack_most"),
)
# Of kernels that requantize: a scale for each row of the panels, where the residual's planes begin, row by row as in
# `rows`, and the constants of requantize.
MORE_FIELDS = ("scales", "residual_rows", "numbers", *INTEGERS)


@dataclass(frozen=True)
class ConvKernel:
    """Kernel of a convolution over tiles and panels.

    rows            R, output channels of a panel
    vectors         V of each tile size that occurs, largest first
    patterns        bit r of a pattern says that row r is nonzero; () for rows in lockstep
    shared_deltas   all panels use the positions of the first (dense)
    packed          a tile's input is copied to scratch before its panels are computed
    partial         the step computes one block of positions; sums wait in the output between the steps of a layer
    masked          lanes outside the map exist and are stored as zero
    prefetch        ask for the inputs of the position AHEAD further on; one pattern only
    requantize      quads are multiplied, and this happens to their sums; None for floats. Results in quads need panels
                    of whole quads of rows
    pairs           inputs and weights are pairs of bf16 numbers; everything else is float32
    """

    rows: int
    vectors: tuple[int, ...]
    patterns: tuple[int, ...]
    activation: Activation | None = None
    residual: bool = False
    shared_deltas: bool = False
    packed: bool = False
    partial: bool = False
    masked: bool = True
    prefetch: bool = False
    requantize: Requantize | None = None
    pairs: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """Argument slots."""
        return (*FIELDS, *MORE_FIELDS) if self.requantize else FIELDS

    @property
    def name(self) -> str:
        """For example f32_conv_4x6x5_full_relu_residual."""
        patterns = "_".join(f"{p:x}" for p in self.patterns) or "lockstep"
        if len(self.patterns) == 2**self.rows - 1:
            patterns = "all"
        if self.patterns == (2**self.rows - 1,):
            patterns = "full"
        kind = symbol(self.activation)
        flags = "".join(
            f"_{flag}"
            for flag in ("residual", "shared_deltas", "packed", "partial", "masked", "prefetch")
            if getattr(self, flag)
        )
        element, ends = ("i8", self.requantize.symbol) if self.requantize else ("bf16" if self.pairs else "f32", "")
        return f"{element}_conv_{self.rows}x{'x'.join(map(str, self.vectors))}_{patterns}_{kind}{flags}{ends}"

    @property
    def panel_words(self) -> int:
        """i32 words of a panel's record."""
        return len(PANEL_FIELDS) + max(len(self.patterns), 1)

    def emit(self, module: KernelModule) -> None:
        """Write the kernel."""
        with module.kernel(self.name, self.fields) as body:
            _Writer(self, body).units()


class _Writer:
    """One kernel being written."""

    def __init__(self, kernel: ConvKernel, body: KernelBody) -> None:
        self.kernel = kernel
        self.f = body
        self.width = 4 * body.lanes
        self.pointers = {
            name: body.pointer(name)
            for name in ("x", "y", "bias", "units", "tiles", "panels", "deltas", "weights", "rows", "masks")
        }
        self.unit = body.integer("unit")
        self.results = Results(body, kernel.requantize, kernel.activation) if kernel.requantize else None
        self.quads = self.results is not None and self.results.how.quads
        self.type = I32 if self.results else F32  # of sums
        self.element = I32 if self.results or kernel.pairs else F32
        if kernel.residual:
            self.pointers["residual"] = body.pointer("residual")
        if kernel.packed:
            self.pointers["pack_offsets"] = body.pointer("pack_offsets")
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
            acc = self.start_sums(start["row"], y, vectors)
            if kernel.patterns:
                self.accumulate(record, start, base, acc)
            else:
                self.accumulate_in_lockstep(record, start, base, acc)
            if self.results and self.quads:
                self.store_quads(self.results, tile, start["row"], y, acc, masks)
            else:
                self.finish(tile, start["row"], y, acc, masks)

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
                for v in range(vectors):
                    f.store(f.load(source, v * f.lanes), target.get(), v * f.lanes, align=self.width)
                target.set(f.at(target.get(), self.unit))

    def prefetch_outputs(self, tile: dict[str, Value], row: Value, y: Value, vectors: int) -> None:
        """Ask for the lines that the panel's end will add to and write, while its sums are computed."""
        f = self.f
        if not self.kernel.prefetch:
            return
        # For writing: a line that is only read would have to be asked for again when it is stored.
        for r in range(0, self.kernel.rows, 4 if self.quads else 1):
            place = self.row_address(row, r)
            for v in range(vectors):
                f.prefetch(f.at(f.at(y, place), v * self.width), write=True)
                if self.kernel.residual:
                    f.prefetch(f.at(self.residual_row(tile, row, r, place), v * self.width))

    def residual_row(self, tile: dict[str, Value], row: Value, r: int, place: Value) -> Value:
        """Address of the tile in the residual's plane for a panel's row r, which is written at `place`."""
        f = self.f
        if self.results:
            place = f.load_i64(f.pointer("residual_rows"), f.b.add(row, f.i64(r)), I64)
        return f.at(f.at(self.pointers["residual"], tile["residual"]), place)

    def row_address(self, row: Value, r: int) -> Value:
        """Bytes from the tensor's first plane to the plane of a panel's row r; negative for a row that only pads."""
        return self.f.load_i64(self.pointers["rows"], self.f.b.add(row, self.f.i64(r)), I64)

    def start_sums(self, row: Value, y: Value, vectors: int) -> list[list[Var]]:
        """acc = bias, or what the block of positions before left in the output.

        Sums of quads begin with the first loop that adds to them: rows that wait for theirs need no registers.
        """
        f = self.f
        acc = [[f.var(ir.VectorType(self.type, f.lanes)) for _ in range(vectors)] for _ in range(self.kernel.rows)]

        def from_bias() -> None:
            for r, sums in enumerate(acc):
                self.start_row(row, r, sums)

        if self.kernel.patterns and self.results:
            return acc
        if not self.kernel.partial:
            from_bias()
            return acc
        with f.b.if_else(self.flag("first")) as (then, otherwise):
            with then:
                from_bias()
            with otherwise:
                for r, sums in enumerate(acc):
                    # A padding row has no memory: it reads the first plane and is never stored.
                    place = self.row_address(row, r)
                    place = f.b.select(f.b.icmp_signed("<", place, f.i64(0)), f.i64(0), place)
                    for v, value in enumerate(sums):
                        value.set(f.load(f.at(y, place), v * f.lanes, align=self.width))
        return acc

    def start_row(self, row: Value, r: int, sums: list[Var]) -> None:
        """acc = bias for a panel's row r."""
        bias = self.f.splat(self.f.load_scalar(self.pointers["bias"], self.f.b.add(row, self.f.i64(r)), self.type))
        for value in sums:
            value.set(bias)

    def accumulate(self, record: Value, start: dict[str, Value], base: Value, acc: list[list[Var]]) -> None:
        """acc += weights times inputs, one straight loop per pattern."""
        f = self.f
        delta = f.var(I64, f.i64(0) if self.kernel.shared_deltas else start["delta"])
        weight = f.var(PTR, f.element(self.pointers["weights"], start["weight"]))
        origin = f.at(base, f.b.mul(start["x"], self.unit))
        for i, pattern in enumerate(self.kernel.patterns):
            count = f.load_i64(record, len(PANEL_FIELDS) + i, I32)
            rows = [r for r in range(self.kernel.rows) if pattern >> r & 1]
            for r in rows if self.results else ():
                if not any(earlier >> r & 1 for earlier in self.kernel.patterns[:i]):
                    self.start_row(start["row"], r, acc[r])
            x = f.var(PTR, origin)
            ahead = f.var(PTR, f.at(origin, f.b.mul(start["ahead"], self.unit))) if self.kernel.prefetch else None
            first = delta.get()
            end = f.b.add(first, count)
            with f.loop(first, end) as position:
                step = f.load_i64(self.pointers["deltas"], position, I16)
                x.set(f.at(x.get(), f.b.mul(step, self.unit)))
                if ahead is not None:
                    later = f.load_i64(self.pointers["deltas"], f.b.add(position, f.i64(AHEAD)), I16)
                    ahead.set(f.at(ahead.get(), f.b.mul(later, self.unit)))
                    for v in range(len(acc[0])):
                        f.prefetch(f.at(ahead.get(), v * self.width))
                inputs = [self.inputs(x.get(), v) for v in range(len(acc[0]))]
                weights = weight.get()
                for j, r in enumerate(rows):
                    w = self.weights(weights, j)
                    for v, value in enumerate(inputs):
                        acc[r][v].set(self.add(w, value, acc[r][v].get()))
                weight.set(f.element(weights, len(rows)))
            delta.set(end)

    def accumulate_in_lockstep(self, record: Value, start: dict[str, Value], base: Value, acc: list[list[Var]]) -> None:
        """acc += weights times inputs, one position of every row in each turn."""
        f, rows = self.f, self.kernel.rows
        origin = f.at(base, f.b.mul(start["x"], self.unit))
        deltas = f.element(self.pointers["deltas"], start["delta"], I16)
        weights = f.element(self.pointers["weights"], start["weight"])
        x = [f.var(PTR, origin) for _ in range(rows)]
        with f.loop(0, f.load_i64(record, len(PANEL_FIELDS), I32)) as turn:
            first = f.b.mul(turn, f.i64(rows))
            for r, sums in enumerate(acc):
                step = f.load_i64(deltas, f.b.add(first, f.i64(r)), I16)
                x[r].set(f.at(x[r].get(), f.b.mul(step, self.unit)))
                w = self.weights(weights, f.b.add(first, f.i64(r)))
                for v, total in enumerate(sums):
                    total.set(self.add(w, self.inputs(x[r].get(), v), total.get()))

    def inputs(self, x: Value, v: int) -> Value:
        """Vector v of the inputs of a position."""
        return self.f.load(x, v * self.f.lanes, type=self.element)

    def weights(self, weights: Value, index: Value | int) -> Value:
        """One weight for all lanes."""
        return self.f.splat(self.f.load_scalar(weights, index, self.element))

    def add(self, w: Value, x: Value, total: Value) -> Value:
        """total + w x, for floats, pairs or quads."""
        if self.kernel.pairs:
            return pair_dot(self.f, total, x, w)
        return dot(self.f, total, x, w) if self.results else self.f.fma(w, x, total)

    def flag(self, name: str) -> Value:
        """An argument that is 0 or 1."""
        return self.f.b.icmp_signed("!=", self.f.integer(name), self.f.i64(0))

    def finish(
        self,
        tile: dict[str, Value],
        row: Value,
        y: Value,
        acc: list[list[Var]],
        masks: list[Value],
    ) -> None:
        """Store the sums: as they are between blocks, else after residual and activation."""
        f = self.f
        for r, sums in enumerate(acc):
            place = self.row_address(row, r)
            with f.if_(f.b.icmp_signed(">=", place, f.i64(0))):
                target = f.at(y, place)
                if not self.kernel.partial:
                    self.store_final(sums, tile, place, target, masks, row, r)
                    continue
                with f.b.if_else(self.flag("last")) as (then, otherwise):
                    with then:
                        self.store_final(sums, tile, place, target, masks, row, r)
                    with otherwise:
                        # Padding stays zero between blocks too: behind a tensor's last plane it is the padding above
                        # the next tensor in memory, which another thread may be reading.
                        for v, value in enumerate(sums):
                            kept = self.inside(masks, v, value.get(), f.splat(0.0))
                            f.store(kept, target, v * f.lanes, align=self.width)

    def store_final(
        self,
        sums: list[Var],
        tile: dict[str, Value],
        place: Value,
        target: Value,
        masks: list[Value],
        row: Value,
        r: int,
    ) -> None:
        """Residual, activation, zeros outside the map."""
        f = self.f
        slope = self.slope(row, r)
        other = self.residual_row(tile, row, r, place) if self.kernel.residual else None
        scale = self.scale(row, r) if self.results else None
        for v, value in enumerate(sums):
            out = value.get()
            added = f.load(other, v * f.lanes, self.width, self.type) if other is not None else None
            if self.results:
                other_part = None if added is None else self.results.added(added)[r % 4]
                out = self.results.row(out, scale, other_part, slope)
            else:
                out = out if added is None else f.b.fadd(out, added)
                out = activate(f, out, self.kernel.activation, slope)
            f.store(self.inside(masks, v, out, f.splat(0.0)), target, v * f.lanes, align=self.width)

    def store_quads(
        self,
        results: Results,
        tile: dict[str, Value],
        row: Value,
        y: Value,
        acc: list[list[Var]],
        masks: list[Value],
    ) -> None:
        """The results of four rows at a time as quads."""
        f = self.f
        for first in range(0, self.kernel.rows, 4):
            place = self.row_address(row, first)
            with f.if_(f.b.icmp_signed(">=", place, f.i64(0))):
                target = f.at(y, place)
                other = self.residual_row(tile, row, first, place) if self.kernel.residual else None
                scales = [self.scale(row, first + r) for r in range(4)]
                slopes = [self.slope(row, first + r) for r in range(4)]
                for v in range(len(acc[0])):
                    added = [None] * 4
                    if other is not None:
                        added = results.added(f.load(other, v * f.lanes, self.width, I32))
                    rows = [results.row(acc[first + r][v].get(), scales[r], added[r], slopes[r]) for r in range(4)]
                    out = self.inside(masks, v, results.quads(rows), results.fill())
                    f.store(out, target, v * f.lanes, align=self.width)

    def scale(self, row: Value, r: int) -> Value:
        """Scale of a panel's row r, for all lanes."""
        return self.f.splat(self.f.load_scalar(self.f.pointer("scales"), self.f.b.add(row, self.f.i64(r))))

    def slope(self, row: Value, r: int) -> Value:
        """Slope of a panel's row r for negative values, where the activation has one."""
        if self.kernel.activation and self.kernel.activation.kind == "prelu":
            return self.f.splat(self.f.load_scalar(self.f.pointer("slope"), self.f.b.add(row, self.f.i64(r))))
        return None

    def inside(self, masks: list[Value], v: int, value: Value, zero: Value) -> Value:
        """Vector v of a tile with zeros outside the map."""
        return self.f.b.select(masks[v], value, zero) if masks else value
