"""Operators on single 8-bit integers, over rows of quads (kernels.elementwise).

    add      s = (a - a_zero) a_factor + (b - b_zero) b_factor
    mul      s = ((a - a_zero) (b - b_zero)) factor
    table    y = table[a]

    y = clamp(round(s) + zero)    or, with an activation,    clamp(round(activation(s) unit) + zero)

Every operation is rounded by itself, `round` takes halves to the even number (graph.quantized.arithmetic). Bytes and
zero points are as they are stored, 0 to 255.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from secateur.engine.emit.activations import activate, symbol
from secateur.engine.emit.builder import I8, I16, I32, KernelBody, KernelModule, Value
from secateur.engine.emit.integers import (
    as_floats,
    between,
    centred,
    nearest,
    quads_of,
    spread,
    table,
    words,
    zero_for_centred,
)
from secateur.engine.kernels.elementwise import Load, Operand, RowValue, row_fields, write_rows
from secateur.graph.ir import Activation

# Operations: the floats that they are told, and the whole numbers.
NUMBERS = {"add": ("a_factor", "b_factor"), "mul": ("factor",), "table": ()}
ZEROS = {"add": ("a_zero", "b_zero"), "mul": ("a_zero", "b_zero"), "table": ()}


@dataclass(frozen=True)
class QuadElementwise:
    """Units are parts of `part` quads of a row.

    operation     add, mul, table
    operands      per operand "full" or "row"
    activation    of the sum or product
    clamped       results are clamped to `low` and `high`
    masked        the row is a plane: whole vectors are stored, `fill` where the mask table has no pixel
    """

    operation: str
    operands: tuple[str, ...]
    activation: Activation | None = None
    clamped: bool = False
    masked: bool = False

    @property
    def name(self) -> str:
        """Symbol."""
        flags = [flag for flag in ("clamped", "masked") if getattr(self, flag)]
        return "_".join(filter(None, ["u8", self.operation, *self.operands, symbol(self.activation), *flags]))

    @property
    def fields(self) -> tuple[str, ...]:
        """Rows; factors and `unit`, which are floats; zero points, bounds and `fill`, whole numbers; 256 bytes."""
        numbers = (*NUMBERS[self.operation], *ZEROS[self.operation])
        rest = ("table",) if self.operation == "table" else ("unit", "zero", "low", "high")
        return (*row_fields(len(self.operands)), *numbers, *rest, "fill")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            fill = as_floats(f, spread(f, f.b.trunc(f.integer("fill"), I32), words(f)))
            value = self._looked_up(f) if self.operation == "table" else self._computed(f)
            write_rows(f, self.operands, value, fill if self.masked else None)

    def _looked_up(self, f: KernelBody) -> RowValue:
        look = table(f, f.pointer("table"))

        def value(operands: Sequence[Operand], load: Load) -> Value:
            return as_floats(f, look(_quads(f, operands[0], load)))

        return value

    def _computed(self, f: KernelBody) -> RowValue:
        b = f.b
        factors = [f.splat(f.number(name)) for name in NUMBERS[self.operation]]
        zeros = [zero_for_centred(f, f.integer(name)) for name in ZEROS[self.operation]]
        rounded = _Rounded(f, self.activation, self.clamped)

        def value(operands: Sequence[Operand], load: Load) -> Value:
            first, second = (
                centred(f, _quads(f, operand, load), zero) for operand, zero in zip(operands, zeros, strict=True)
            )
            if self.operation == "add":
                first, second = (
                    [b.fmul(v, factor) for v in part] for part, factor in zip((first, second), factors, strict=True)
                )
                results = [b.fadd(v, w) for v, w in zip(first, second, strict=True)]
            else:
                results = [b.fmul(b.fmul(v, w), factors[0]) for v, w in zip(first, second, strict=True)]
            return as_floats(f, rounded.quads(results))

        return value


class _Rounded:
    """From sums and products to quads."""

    def __init__(self, f: KernelBody, activation: Activation | None, clamped: bool) -> None:
        b = f.b
        self.f, self.activation = f, activation
        self.zero = spread(f, b.trunc(f.integer("zero"), I16), ir.VectorType(I16, 2 * f.lanes))
        bytes_ = ir.VectorType(I8, 4 * f.lanes)
        self.limits = [spread(f, b.trunc(f.integer(name), I8), bytes_) for name in ("low", "high")] if clamped else None
        self.unit = f.splat(f.number("unit"))

    def quads(self, values: Sequence[Value]) -> Value:
        """Channel by channel."""
        f, b = self.f, self.f.b
        if self.activation is not None:
            units = [b.fmul(activate(f, value, self.activation), self.unit) for value in values]
            values = [f.min(f.splat(_FAR), f.max(f.splat(-_FAR), value)) for value in units]
        made = quads_of(f, [nearest(f, value) for value in values], self.zero)
        if self.limits is None:
            return made
        bytes_ = b.bitcast(made, self.limits[0].type)
        return b.bitcast(between(f, bytes_, *self.limits), words(f))


# More than any byte is, whatever its zero point, and within 16 bits with it.
_FAR = 1024.0


def _quads(f: KernelBody, operand: Operand, load: Load) -> Value:
    kind, given = operand
    return f.b.bitcast(load(given) if kind == "full" else given, words(f))
