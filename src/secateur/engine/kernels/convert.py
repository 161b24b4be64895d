"""Elements of another type, or plain copies of any type: float32, int64, int32, bool.

As numpy and ONNX do: floats to integers truncate, everything but zero is true. Floats that an integer cannot hold
give any number, as in ONNX.
"""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from secateur.engine.emit.builder import F32, I8, I32, I64, KernelBody, KernelModule, Value

TYPES: dict[str, Any] = {"float32": F32, "int64": I64, "int32": I32, "bool": I8}


@dataclass(frozen=True)
class Convert:
    """Units are blocks of `block` elements."""

    source: str
    target: str

    @property
    def name(self) -> str:
        """Symbol."""
        return f"{self.source}_to_{self.target}"

    @property
    def fields(self) -> tuple[str, ...]:
        """`size` elements."""
        return ("x", "y", "size", "block")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        lanes = module.lanes
        with module.kernel(self.name, self.fields) as body:
            b = body.b
            x, y = body.pointer("x"), body.pointer("y")
            block = body.integer("block")
            first = b.mul(body.begin, block)
            last = body.smaller(body.integer("size"), b.mul(body.end, block))
            whole = b.add(first, b.mul(b.sdiv(b.sub(last, first), body.i64(lanes)), body.i64(lanes)))
            with body.loop(first, whole, lanes) as i:
                self._move(body, x, y, i, lanes)
            with body.loop(whole, last) as i:
                self._move(body, x, y, i, 0)

    def _move(self, body: KernelBody, x: Value, y: Value, index: Value, lanes: int) -> None:
        from_, to = (ir.VectorType(TYPES[t], lanes) if lanes else TYPES[t] for t in (self.source, self.target))
        at = body.element(x, index, TYPES[self.source])
        value = body.b.load(at, typ=from_, align=1)
        made = self._converted(body, value, to)
        body.b.store(made, body.element(y, index, TYPES[self.target]), align=1)

    def _converted(self, body: KernelBody, value: Value, to: Any) -> Value:
        b = body.b
        if self.source == self.target:
            return value
        zero = ir.Constant(value.type, None)
        if self.target == "bool":
            different = (
                b.fcmp_unordered("!=", value, zero) if self.source == "float32" else b.icmp_signed("!=", value, zero)
            )
            return b.zext(different, to)
        if self.source == "bool":
            return b.uitofp(value, to) if self.target == "float32" else b.zext(value, to)
        if self.source == "float32":
            return b.fptosi(value, to)
        if self.target == "float32":
            return b.sitofp(value, to)
        return b.sext(value, to) if self.target == "int64" else b.trunc(value, to)
