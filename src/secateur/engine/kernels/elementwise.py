"""Operators on single numbers, over rows of any tensors.

    y[targets[row] + i] = activation(op(x0[offsets0[row] + i or 0], x1[...], ...))        i < length

A row is a whole plane, a row of one, a block of a dense array, or all planes of an image at once; an operand gives
either one element per element or one number for the whole row. Tables of offsets make every broadcast of the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from secateur.engine.emit.activations import activate, symbol
from secateur.engine.emit.builder import KernelBody, KernelModule, Value
from secateur.engine.emit.sweep import sweep
from secateur.graph.ir import Activation

# Its kind, and the address of its row or the row's number in all lanes.
Operand = tuple[str, Value]
Load = Callable[[Value], Value]
RowValue = Callable[[Sequence[Operand], Load], Value]

# What kernels over rows are told; tables are i64 per row.
ROW_FIELDS = ("y", "targets", "masks", "length", "parts", "part")

# Operations and their numbers of operands.
OPERATIONS = {
    "Identity": 1,
    "Sqrt": 1,
    "Square": 1,
    "Cube": 1,
    "Add": 2,
    "Sub": 2,
    "Mul": 2,
    "Div": 2,
    "Max": 2,
    "Min": 2,
    "PRelu": 2,
    "ScaleShift": 3,
}


def _operate(f: KernelBody, operation: str, v: Sequence[Value]) -> Value:
    match operation:
        case "Identity":
            return v[0]
        case "Add":
            return f.b.fadd(v[0], v[1])
        case "Sub":
            return f.b.fsub(v[0], v[1])
        case "Mul":
            return f.b.fmul(v[0], v[1])
        case "Div":
            return f.b.fdiv(v[0], v[1])
        case "Max":
            return _propagating(f, f.max(v[0], v[1]), v[0])
        case "Min":
            return _propagating(f, f.min(v[0], v[1]), v[0])
        case "PRelu":
            return activate(f, v[0], Activation("prelu"), v[1])
        case "ScaleShift":
            return f.fma(v[0], v[1], v[2])
        case "Sqrt":
            return f.call("sqrt", v[0])
        case "Square":
            return f.b.fmul(v[0], v[0])
        case "Cube":
            return f.b.fmul(v[0], f.b.fmul(v[0], v[0]))
        case _:
            raise AssertionError(operation)


def _propagating(f: KernelBody, result: Value, first: Value) -> Value:
    """`result`, which already keeps the second operand's NaN, or the first operand's."""
    return f.b.select(f.b.fcmp_unordered("uno", first, first), first, result)


@dataclass(frozen=True)
class Elementwise:
    """Units are parts of `part` elements of a row.

    operation    a key of OPERATIONS
    operands     per operand "full" or "row"
    masked       the row is a plane: whole vectors are stored, zeros where the mask table has no pixel
    """

    operation: str
    operands: tuple[str, ...]
    activation: Activation | None = None
    masked: bool = False

    @property
    def name(self) -> str:
        """Symbol."""
        parts = [f"f32_{self.operation.lower()}", "_".join(self.operands), symbol(self.activation)]
        return "_".join(filter(None, [*parts, "masked" if self.masked else ""]))

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables are i64 per row."""
        return row_fields(len(self.operands))

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as body:
            self._write(body)

    def _write(self, f: KernelBody) -> None:
        def value(operands: Sequence[Operand], load: Load) -> Value:
            values = [load(given) if kind == "full" else given for kind, given in operands]
            return activate(f, _operate(f, self.operation, values), self.activation)

        write_rows(f, self.operands, value, f.splat(0.0) if self.masked else None)


def write_rows(f: KernelBody, kinds: Sequence[str], value: RowValue, fill: Value | None) -> None:
    """Parts of rows, whose arguments are ROW_FIELDS and those of the operands (row_fields).

    kinds    per operand "full" or "row"
    value    of a vector of 4-byte elements from the operands, with what loads a row's vector
    fill     what whole vectors have where the mask table has no pixel; None where rows are not planes
    """
    b = f.b
    y, targets, masks = (f.pointer(name) for name in ROW_FIELDS[:3])
    length, parts, part = (f.integer(name) for name in ROW_FIELDS[3:])
    arrays = [(f.pointer(f"x{i}"), f.pointer(f"offsets{i}")) for i in range(len(kinds))]
    with f.loop(f.begin, f.end) as unit:
        row = b.sdiv(unit, parts)
        start = b.mul(b.srem(unit, parts), part)
        stop = f.smaller(length, b.add(start, part))
        target = f.element(y, f.load_i64(targets, row))
        operands = [
            _operand(f, f.element(x, f.load_i64(offsets, row)), kind)
            for (x, offsets), kind in zip(arrays, kinds, strict=True)
        ]
        if fill is None:
            sweep(f, start, stop, lambda block: block.store(value(operands, block.load), target))
            return
        with f.loop(start, stop, f.lanes) as i:
            inside = f.mask_bits(masks, b.sdiv(i, f.i64(f.lanes)))
            f.store(b.select(inside, value(operands, partial(f.load, index=i)), fill), target, i)


def row_fields(operands: int) -> tuple[str, ...]:
    """Argument slots of a kernel over rows with so many operands."""
    return (*ROW_FIELDS, *(name for i in range(operands) for name in (f"x{i}", f"offsets{i}")))


def _operand(f: KernelBody, source: Value, kind: str) -> Operand:
    return kind, source if kind == "full" else f.splat(f.load_scalar(source))
