"""Depthwise convolution of 8-bit integers: one plane of quads in, one out, every channel by itself.

    sum[c, y, x] = bias[c] + sum over taps w[c, tap] in[plane(tap), c, s y + dy(tap), s x + dx(tap)]

One instruction multiplies four bytes with four weights and adds them. Channels are not to be added, taps are: the
bytes of four rows are interleaved, so that an element has the same channel and column of four rows (16 bytes have the
four channels of a pixel). A kernel of three rows leaves one of them over, which two rows of outputs share. Columns
further to the right are other vectors of the interleaved ones, or two of them shifted; with stride 2, every second one.

Sums become quads as in kernels.requantize. Their vectors are in groups (emit.integers): vector j has pixel 4 L + j in
its 16-byte part L, or with stride 2 that of `_Order.pixel`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from llvmlite import ir

from secateur.engine.emit.activations import symbol
from secateur.engine.emit.builder import F32, I16, I32, KernelBody, KernelModule, Value
from secateur.engine.emit.integers import as_floats, dot, grouped, nearest, octets, words
from secateur.engine.kernels.quad_rows import plane_rows
from secateur.engine.kernels.requantize import INTEGERS, Requantize, Results
from secateur.graph.ir import Activation

FIELDS = (
    *("x", "y", "residual", "bias", "weights", "scales", "slope", "origins", "numbers"),
    *("planes", "parts", "rows", "h", "w", "x_pitch", "x_plane", "x_image", "y_pitch", "y_plane", "y_image"),
    *("residual_pitch", "residual_plane", "residual_image", *INTEGERS),
)
Row = tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """Four weights of each of four channels, which an instruction takes together.

    row       output row, of those that are computed together
    column    of the kernel
    sources   (plane, row) of the inputs that are interleaved
    taps      the kernel's row that meets each of them; None where none does
    """

    row: int
    column: int
    sources: tuple[Row, Row, Row, Row]
    taps: tuple[int | None, ...]


@dataclass(frozen=True)
class QuadDepthwise:
    """A unit is some rows of an output plane (image n, quad q), which reads input planes from origins[q] on (i64).

    taps       (plane, dy, dx) of each weight, row by row; plane counts the phase planes of one input quad
    width      weights of a row
    together   output rows computed together; of a plane with fewer, some are computed again
    stride     s, 1 or 2
    shares     scales belong to positions, not to channels: a vector for each of `vectors` of a row, and a row of them
               for each row of outputs
    """

    taps: tuple[tuple[int, int, int], ...]
    width: int
    together: int
    stride: int
    requantize: Requantize
    activation: Activation | None = None
    residual: bool = False
    shares: bool = False

    @property
    def name(self) -> str:
        """Names every tap, because taps are part of the code."""
        taps = "_".join("".join(str(i).replace("-", "m") for i in tap) for tap in self.taps)
        flags = [flag for flag in ("residual", "shares") if getattr(self, flag)]
        parts = [
            "u8_depthwise",
            str(self.together),
            str(self.width),
            taps,
            f"by_{self.stride}",
            symbol(self.activation),
        ]
        return "_".join(filter(None, [*parts, *flags])) + self.requantize.symbol

    @property
    def fields(self) -> tuple[str, ...]:
        """Argument slots; distances in quads."""
        return FIELDS

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """What each output row is the sum of, in the order of the weights in memory."""
        found: list[Entry] = []
        height = len(self.taps) // self.width
        for column in range(self.width):
            rows = [
                [(plane, dy + self.stride * i) for plane, dy, _ in self.taps[column :: self.width]]
                for i in range(self.together)
            ]
            all_rows = sorted({row for own in rows for row in own})
            for begin in range(0, len(all_rows), 4):
                few = all_rows[begin : begin + 4]
                sources = (*few, *[few[-1]] * (4 - len(few)))
                for i in range(self.together):
                    met = [rows[i].index(row) if row in rows[i] else None for row in few]
                    taps = (*met, *[None] * (4 - len(few)))
                    if any(tap is not None for tap in taps):
                        a, b, c, d = sources
                        found.append(Entry(i, column, (a, b, c, d), taps))
        assert height > 0
        return tuple(found)

    def vectors(self, lanes: int) -> int:
        """Vectors of a row of inputs that a vector of outputs needs, from the first column of any tap on."""
        order = _Order(lanes, self.stride)
        columns = [dx for _, _, dx in self.taps]
        last = 0
        for j in range(4):
            block, first = order.source(j)
            first += max(columns) - min(columns)
            last = max(last, lanes * block + 4 * (first // 4) + lanes - 1)
        return last // lanes + 1

    def pixels(self, lanes: int) -> list[int]:
        """The pixel of every lane of the four vectors of sums, one vector behind the other."""
        order = _Order(lanes, self.stride)
        return [order.pixel(j, lane // 4) for j in range(4) for lane in range(lanes)]

    def emit(self, module: KernelModule) -> None:
        """Write the kernel."""
        with module.kernel(self.name, self.fields) as f:
            _Writer(self, f).planes()


class _Order:
    """Which pixel of a vector of quads each 16-byte part of the four vectors of sums has."""

    def __init__(self, lanes: int, stride: int) -> None:
        self.lanes, self.stride = lanes, stride

    def pixel(self, j: int, part: int) -> int:
        """Of part L of vector j."""
        return 4 * part + j if self.stride == 1 else 2 * part + j % 2 + self.lanes // 2 * (j // 2)

    def source(self, j: int) -> tuple[int, int]:
        """The block of inputs and the column in it that part 0 of vector j has, for the first tap."""
        return (0, j) if self.stride == 1 else (j // 2, 2 * (j % 2))

    def natural(self) -> list[int]:
        """For every pixel in order, where its quad lies in grouped bytes."""
        places = {self.pixel(j, part): 4 * part + j for part in range(self.lanes // 4) for j in range(4)}
        return [places[pixel] for pixel in range(self.lanes)]


class _Writer:
    """One kernel being written."""

    def __init__(self, kernel: QuadDepthwise, f: KernelBody) -> None:
        self.kernel, self.f = kernel, f
        self.size = {name: f.integer(name) for name in FIELDS[FIELDS.index("planes") : FIELDS.index("zero")]}
        self.results = Results(f, kernel.requantize, kernel.activation)
        self.order = _Order(f.lanes, kernel.stride)
        self.first = min(dx for _, _, dx in kernel.taps)

    def planes(self) -> None:
        """for unit in [begin, end)."""
        f, b, size, kernel = self.f, self.f.b, self.size, self.kernel
        x, y, weights = f.pointer("x"), f.pointer("y"), f.pointer("weights")
        with f.loop(f.begin, f.end) as unit:
            plane, first, last = plane_rows(f, unit)
            image, quad = b.sdiv(plane, size["planes"]), b.srem(plane, size["planes"])
            target = f.element(y, b.add(b.mul(quad, size["y_plane"]), b.mul(image, size["y_image"])))
            origin = f.load_i64(f.pointer("origins"), quad)
            source = f.element(x, b.add(origin, b.mul(image, size["x_image"])))
            other = None
            if kernel.residual:
                place = b.add(b.mul(quad, size["residual_plane"]), b.mul(image, size["residual_image"]))
                other = f.element(f.pointer("residual"), place)
            count = len(kernel.entries)
            own = [self.channels(weights, b.add(b.mul(quad, f.i64(count)), f.i64(i)), I32) for i in range(count)]
            bias = self.channels(f.pointer("bias"), quad, I32)
            scale = None if kernel.shares else self.channels(f.pointer("scales"), quad, F32)
            slope = None
            if kernel.activation and kernel.activation.kind == "prelu":
                slope = self.channels(f.pointer("slope"), quad, F32)
            with f.loop(first, last, kernel.together) as block:
                row = f.smaller(block, b.sub(size["h"], f.i64(kernel.together)))
                with f.loop(0, size["w"], f.lanes) as column:
                    sums = self.sums(source, own, bias, row, column)
                    for i in range(kernel.together):
                        at = b.add(b.mul(b.add(row, f.i64(i)), size["y_pitch"]), column)
                        self.store(sums[i], target, other, b.add(row, f.i64(i)), column, at, scale, slope)

    def channels(self, table: Value, record: Value, kind: ir.Type) -> Value:
        """Four numbers, one per channel, for every pixel."""
        f, b = self.f, self.f.b
        four = b.load(f.element(table, b.mul(record, f.i64(4))), typ=ir.VectorType(kind, 4), align=4)
        return f.shuffle(four, four, [i % 4 for i in range(f.lanes)])

    def sums(
        self, source: Value, weights: Sequence[Value], bias: Value, row: Value, column: Value
    ) -> list[list[Value]]:
        """Four vectors of sums for each of the rows that are computed together."""
        f, b, size, kernel = self.f, self.f.b, self.size, self.kernel
        start = b.add(b.mul(row, size["x_pitch"]), column)
        place = f.element(source, b.add(b.mul(f.i64(kernel.stride), start), f.i64(self.first)))
        inputs = _Inputs(f, place, size["x_plane"], size["x_pitch"])
        sums = [[bias] * 4 for _ in range(kernel.together)]
        for entry, weight in zip(kernel.entries, weights, strict=True):
            shift = kernel.taps[entry.column][2] - self.first
            for j in range(4):
                block, first = self.order.source(j)
                value = inputs.column(entry.sources, block, first + shift)
                sums[entry.row][j] = dot(f, sums[entry.row][j], value, weight)
        return sums

    def store(
        self,
        sums: Sequence[Value],
        target: Value,
        other: Value | None,
        row: Value,
        column: Value,
        at: Value,
        scale: Value | None,
        slope: Value | None,
    ) -> None:
        """One vector of quads."""
        f, b, size, results = self.f, self.f.b, self.size, self.results
        mask = f.first_lanes(b.sub(size["w"], column))
        added: Sequence[Value | None] = [None] * 4
        if other is not None:
            place = b.add(b.mul(row, size["residual_pitch"]), column)
            added = self.apart(b.bitcast(f.load_masked(mask, other, place), words(f)))
        scales = [scale] * 4 if scale is not None else self.shares(row, column)
        values = [results.row(sums[j], scales[j], added[j], slope) for j in range(4)]
        zero = b.bitcast(results.integer("zero"), ir.VectorType(I16, 2 * f.lanes))
        made = b.bitcast(grouped(f, [nearest(f, value) for value in values], zero), words(f))
        if self.kernel.stride > 1:
            made = f.shuffle(made, made, self.order.natural())
        f.store_masked(mask, as_floats(f, made), target, at)

    def shares(self, row: Value, column: Value) -> list[Value]:
        """Scales of the positions of a vector."""
        f, b = self.f, self.f.b
        lanes = f.i64(f.lanes)
        vectors = b.sdiv(b.add(self.size["w"], f.i64(f.lanes - 1)), lanes)
        first = b.mul(b.add(b.mul(row, vectors), b.sdiv(column, lanes)), f.i64(4))
        table = f.pointer("scales")
        return [f.load(table, b.mul(b.add(first, f.i64(j)), lanes)) for j in range(4)]

    def apart(self, quads: Value) -> list[Value]:
        """Quads of the residual as floats less their zero point, in the order of sums."""
        f, b = self.f, self.f.b
        bytes_ = b.bitcast(quads, octets(f))
        nothing = ir.Constant(octets(f), [0] * (4 * f.lanes))
        found: list[Value] = []
        for j in range(4):
            order = [
                4 * self.order.pixel(j, lane // 4) + lane % 4 if byte == 0 else 4 * f.lanes
                for lane in range(f.lanes)
                for byte in range(4)
            ]
            wide = b.bitcast(f.shuffle(bytes_, nothing, order), words(f))
            high = ir.Constant(words(f), [0x4B000000] * f.lanes)
            found.append(b.fsub(b.bitcast(b.or_(wide, high), f.vector), self.results.number("r_zero")))
        return found


class _Inputs:
    """Interleaved rows of a plane, made when they are first asked for.

    place      address of row 0 at the first column that any tap needs
    """

    def __init__(self, f: KernelBody, place: Value, plane: Value, pitch: Value) -> None:
        self.f, self.place, self.plane, self.pitch = f, place, plane, pitch
        self.rows: dict[tuple[Row, int], Value] = {}
        self.woven: dict[tuple[tuple[Row, ...], int], list[Value]] = {}
        self.columns: dict[tuple[tuple[Row, ...], int, int], Value] = {}

    def column(self, sources: tuple[Row, ...], block: int, first: int) -> Value:
        """Elements of pixels 4 L + first of a block of `lanes` pixels, for every 16-byte part L."""
        f = self.f
        part, j = divmod(first, 4)
        parts = f.lanes // 4
        block, part = block + part // parts, part % parts
        key = (sources, block, 4 * part + j)
        if key not in self.columns:
            value = self.interleaved(sources, block)[j]
            if part:
                following = self.interleaved(sources, block + 1)[j]
                value = f.shuffle(value, following, range(4 * part, 4 * part + f.lanes))
            self.columns[key] = value
        return self.columns[key]

    def interleaved(self, sources: tuple[Row, ...], block: int) -> list[Value]:
        """Four vectors: pixel j of every 16 bytes, as four elements of four rows each."""
        f = self.f
        if (sources, block) not in self.woven:
            a, b, c, d = (self.row(source, block) for source in sources)
            low, high = ((_zip(f, a, b, half, 1), _zip(f, c, d, half, 1)) for half in (0, 1))
            self.woven[sources, block] = [
                f.b.bitcast(_zip(f, *pair, half, 2), words(f)) for pair in (low, high) for half in (0, 1)
            ]
        return self.woven[sources, block]

    def row(self, source: Row, block: int) -> Value:
        """A vector of a row, as bytes."""
        f, b = self.f, self.f.b
        if (source, block) not in self.rows:
            plane, y = source
            offset = b.add(b.mul(self.plane, f.i64(plane)), b.mul(self.pitch, f.i64(y)))
            loaded = f.load(f.element(self.place, offset), block * f.lanes)
            self.rows[source, block] = b.bitcast(loaded, octets(f))
        return self.rows[source, block]


def _zip(f: KernelBody, a: Value, b: Value, half: int, size: int) -> Value:
    """Items of `size` bytes of two vectors in turn: those of the lower or upper half of every 16 bytes."""
    order: list[int] = []
    for part in range(0, 4 * f.lanes, 16):
        for item in range(8 * half, 8 * half + 8, size):
            for vector in (0, 4 * f.lanes):
                order += [vector + part + item + i for i in range(size)]
    return f.shuffle(a, b, order)
