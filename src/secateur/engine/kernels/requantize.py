"""From sums of 32 bits to results: 8-bit integers in quads, or float32 (graph.quantized.arithmetic has the reference).

    s = float32(sum) scale[row]
    inner:       s = clamp(round(s), inner_low, inner_high) inner_scale          bounds without the zero point
    residual:    s = s + float32(r - r_zero) r_scale
    activation:  s = activation(s)
    real:        s = s factor                                                     in units of the output from here on
    quads:       q = clamp(round(s), low, high) + zero                            bounds without the zero point

Every operation is rounded by itself, `round` takes halves to the even number.
"""

from dataclasses import dataclass

from llvmlite import ir

from secateur.engine.emit.activations import activate
from secateur.engine.emit.builder import I8, I16, I32, KernelBody, Value
from secateur.engine.emit.integers import centred, nearest, quads_of
from secateur.graph.ir import Activation

# Constants of a layer, float32, in the order of its table; `r_zero` plus 2^23.
NUMBERS = ("inner_low", "inner_high", "inner_scale", "r_zero", "r_scale", "factor", "low", "high")
# Elements of 4 bytes: the output's zero point, as stored, twice in 16 bits; and what stands for zeros in the output.
INTEGERS = ("zero", "fill")
# A byte below these bits is the float 2^23 plus the byte.
_BIG_BITS = 0x4B000000


@dataclass(frozen=True)
class Requantize:
    """Which of these steps a kernel has; residual and activation are the kernel's own.

    quads      results are integers; else float32
    inner      sums are rounded to other numbers before the residual is added
    real       results are multiplied by `factor`
    clamped    bounds cut; else they are 0 and 255 as stored, and no sum can leave 31 bits
    """

    quads: bool = True
    inner: bool = False
    real: bool = False
    clamped: bool = True

    @property
    def symbol(self) -> str:
        """Part of a kernel's name."""
        flags = "".join(f"_{flag}" for flag in ("inner", "real", "clamped") if getattr(self, flag))
        return ("_to_quads" if self.quads else "_to_floats") + flags


class Results:
    """Writes the results of a kernel's sums. The kernel has arguments `numbers` (a table of NUMBERS) and INTEGERS."""

    def __init__(self, f: KernelBody, how: Requantize, activation: Activation | None) -> None:
        self.f = f
        self.how = how
        self.activation = activation
        self.table = f.pointer("numbers")

    def number(self, name: str) -> Value:
        """A constant of the layer, read where it is used: registers are for sums."""
        return self.f.splat(self.f.load_scalar(self.table, NUMBERS.index(name)))

    def integer(self, name: str) -> Value:
        """One of INTEGERS in all lanes."""
        return self.f.splat(self.f.b.trunc(self.f.integer(name), I32))

    def row(self, total: Value, scale: Value, added: Value | None, slope: Value | None) -> Value:
        """What one row's sums become: floats, not rounded yet where integers are wanted.

        scale    vector
        added    the residual's integers less their zero point, as floats
        slope    for prelu
        """
        f, b, number = self.f, self.f.b, self.number
        value = b.fmul(b.sitofp(total, f.vector), scale)
        if self.how.inner:
            value = f.max(number("inner_low"), f.call("roundeven", value))
            value = b.fmul(f.min(number("inner_high"), value), number("inner_scale"))
        if added is not None:
            value = b.fadd(value, b.fmul(added, number("r_scale")))
        value = activate(f, value, self.activation, slope)
        if self.how.real:
            value = b.fmul(value, number("factor"))
        if self.how.quads and self.how.clamped:
            value = f.min(number("high"), f.max(number("low"), value))
        return value

    def added(self, residual: Value) -> list[Value]:
        """A vector of the residual's quads as floats, less their zero point, for each of four rows."""
        return centred(self.f, residual, self.number("r_zero"))

    def added_bytes(self, mask: Value, residual: Value) -> Value:
        """Bytes of the residual from an address on, as floats less their zero point; lanes of the mask are read."""
        f = self.f
        bytes_ = f.load_bytes(mask, residual)
        wide = f.b.zext(bytes_, ir.VectorType(I32, f.lanes))
        high = ir.Constant(wide.type, [_BIG_BITS] * f.lanes)
        return f.b.fsub(f.b.bitcast(f.b.or_(wide, high), f.vector), self.number("r_zero"))

    def store_bytes(self, mask: Value, values: Value, target: Value) -> None:
        """Floats as bytes from an address on, of the lanes of the mask; bounds have been applied."""
        f = self.f
        zero = f.b.and_(self.integer("zero"), ir.Constant(ir.VectorType(I32, f.lanes), [0xFF] * f.lanes))
        rounded = f.b.add(nearest(f, values), zero)
        f.store_bytes(mask, f.b.trunc(rounded, ir.VectorType(I8, f.lanes)), target)

    def quads(self, rows: list[Value]) -> Value:
        """Four rows of floats as one of quads."""
        f = self.f
        zero = f.b.bitcast(self.integer("zero"), ir.VectorType(I16, 2 * f.lanes))
        return quads_of(f, [nearest(f, row) for row in rows], zero)

    def fill(self) -> Value:
        """What stands for zeros in the output."""
        return self.integer("fill") if self.how.quads else self.f.splat(0.0)
