"""Depthwise convolution: one plane of input, one plane of output, all weights in registers (ENGINE.md 3.5 K8).

    out[y, x] = activation(bias + sum over taps w[tap] in[plane(tap), s y + dy(tap), s x + dx(tap)] + residual[y, x])

Several rows of outputs are computed together and share the input vectors that their taps have in common: a 3x3 kernel
on r rows needs 3 (r + 2) loads for 9 r multiply-adds. With stride s = 2 the even and the odd columns of two vectors are
the inputs of two neighbouring taps. Other strides read the phase planes of their input, where taps are neighbours too.
"""

from dataclasses import dataclass, field

from secateur.engine.emit.activations import activate, symbol
from secateur.engine.emit.builder import KernelBody, KernelModule, Value
from secateur.graph.ir import Activation

FIELDS = (
    *("x", "y", "residual", "bias", "weights", "slope", "origins", "channels", "height", "width"),
    *("x_pitch", "x_plane", "x_image", "y_pitch", "y_channel", "y_image", "residual_image"),
)


@dataclass(frozen=True)
class DepthwiseKernel:
    """A unit is one output plane (image n, channel o), which reads the input planes from origins[o] on (i64).

    taps      (plane, dy, dx) of each weight; plane counts the phase planes of one input channel
    rows      output rows computed together
    stride    s, 1 or 2
    The entries of origins, and arguments whose names end in pitch, plane, channel or image, are distances in elements.
    """

    taps: tuple[tuple[int, int, int], ...]
    rows: int
    activation: Activation | None = None
    residual: bool = False
    stride: int = 1
    fields: tuple[str, ...] = field(default=FIELDS, init=False, repr=False)

    @property
    def name(self) -> str:
        """Names every tap, because taps are part of the code."""
        taps = "_".join("".join(str(i).replace("-", "m") for i in tap) for tap in self.taps)
        kind = f"_{symbol(self.activation)}" if self.activation else ""
        by = f"_by_{self.stride}" if self.stride > 1 else ""
        return f"f32_depthwise_{self.rows}_{taps}{by}{kind}" + ("_residual" if self.residual else "")

    def emit(self, module: KernelModule) -> None:
        """Write the kernel."""
        with module.kernel(self.name, self.fields) as f:
            _Writer(self, f).planes()


class _Writer:
    """One kernel being written."""

    def __init__(self, kernel: DepthwiseKernel, f: KernelBody) -> None:
        self.kernel = kernel
        self.f = f
        self.size = {name: f.integer(name) for name in FIELDS if f.fields.index(name) >= FIELDS.index("channels")}

    def planes(self) -> None:
        """for plane in [begin, end)."""
        f, b, size = self.f, self.f.b, self.size
        x, y, weights = f.pointer("x"), f.pointer("y"), f.pointer("weights")
        with f.loop(f.begin, f.end) as unit:
            image, channel = b.sdiv(unit, size["channels"]), b.srem(unit, size["channels"])
            place = b.mul(channel, size["y_channel"])
            target = f.element(y, b.add(place, b.mul(image, size["y_image"])))
            origin = f.load_i64(f.pointer("origins"), channel)
            source = f.element(x, b.add(origin, b.mul(image, size["x_image"])))
            other = None
            if self.kernel.residual:
                other = f.element(f.pointer("residual"), b.add(place, b.mul(image, size["residual_image"])))
            count = len(self.kernel.taps)
            values = [
                f.splat(f.load_scalar(weights, b.add(b.mul(channel, f.i64(count)), f.i64(i)))) for i in range(count)
            ]
            bias = f.splat(f.load_scalar(f.pointer("bias"), channel))
            slope = None
            if self.kernel.activation and self.kernel.activation.kind == "prelu":
                slope = f.splat(f.load_scalar(f.pointer("slope"), channel))
            together = b.mul(b.sdiv(size["height"], f.i64(self.kernel.rows)), f.i64(self.kernel.rows))
            for begin, end, rows in ((f.i64(0), together, self.kernel.rows), (together, size["height"], 1)):
                with f.loop(begin, end, rows) as row, f.loop(0, size["width"], f.lanes) as column:
                    self.block(source, target, other, values, bias, slope, row, column, rows)

    def block(
        self,
        source: Value,
        target: Value,
        other: Value | None,
        weights: list[Value],
        bias: Value,
        slope: Value | None,
        row: Value,
        column: Value,
        rows: int,
    ) -> None:
        """One vector of `rows` neighbouring rows."""
        f, b, size = self.f, self.f.b, self.size
        stride = self.kernel.stride
        mask = f.first_lanes(b.sub(size["width"], column))
        start = b.mul(f.i64(stride), b.add(b.mul(row, size["x_pitch"]), column))
        sums = [bias] * rows
        wanted: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        for i in range(rows):
            for tap, (plane, dy, dx) in enumerate(self.kernel.taps):
                wanted.setdefault((plane, dy + stride * i, dx), []).append((i, tap))
        inputs = _Inputs(f, stride)
        for (plane, dy, dx), uses in sorted(wanted.items()):
            offset = b.add(b.mul(size["x_plane"], f.i64(plane)), b.mul(size["x_pitch"], f.i64(dy)))
            value = inputs.at((plane, dy), f.element(source, b.add(start, offset)), dx)
            for i, tap in uses:
                sums[i] = f.fma(weights[tap], value, sums[i])
        for i, total in enumerate(sums):
            at = b.add(b.mul(b.add(row, f.i64(i)), size["y_pitch"]), column)
            if other is not None:
                total = b.fadd(total, f.load_masked(mask, other, at))
            f.store_masked(mask, activate(f, total, self.kernel.activation, slope), target, at)


class _Inputs:
    """Vectors of every s-th element of rows."""

    def __init__(self, f: KernelBody, stride: int) -> None:
        self.f = f
        self.stride = stride
        self.odd: dict[tuple[tuple[int, int], int], Value] = {}

    def at(self, key: tuple[int, int], row: Value, first: int) -> Value:
        """Elements first, first + s, ... of a row; `key` names the row. Asked for in ascending order of `first`."""
        f = self.f
        if self.stride == 1:
            return f.load(row, first)
        if (key, first) in self.odd:
            return self.odd[key, first]
        low, high = f.load(row, first), f.load(row, first + f.lanes)
        self.odd[key, first + 1] = f.shuffle(low, high, range(1, 2 * f.lanes, 2))
        return f.shuffle(low, high, range(0, 2 * f.lanes, 2))
