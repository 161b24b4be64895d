"""From the lanes of a vector to one number, by halves; the order is always the same.

Quads of bytes go through as the floats whose bits they are.
"""

from dataclasses import dataclass
from math import inf

from llvmlite import ir

from secateur.engine.emit.builder import I8, I32, KernelBody, Value


@dataclass(frozen=True)
class Reduction:
    """How numbers become one: a sum, a maximum, or byte by byte the maximum of unsigned numbers ("max_u8").

    identity    what changes nothing
    """

    kind: str

    @property
    def identity(self) -> float:
        """0 or -inf; four bytes of 0 are the float 0."""
        return -inf if self.kind == "max" else 0.0

    def combine(self, body: KernelBody, total: Value, value: Value) -> Value:
        """Two numbers or vectors as one; a NaN in `value` stays."""
        if self.kind == "max_u8":
            return _larger_bytes(body, total, value)
        return body.max(total, value) if self.kind == "max" else body.b.fadd(total, value)

    def fold(self, body: KernelBody, vector: Value) -> Value:
        """All lanes of a vector as one number."""
        count = vector.type.count
        while count > 1:
            count //= 2
            low, high = (body.shuffle(vector, vector, range(start, start + count)) for start in (0, count))
            vector = self.combine(body, low, high)
        return body.b.extract_element(vector, ir.Constant(I32, 0))


def _larger_bytes(body: KernelBody, a: Value, b: Value) -> Value:
    kind = ir.VectorType(I8, 4 * getattr(a.type, "count", 1))
    first, second = body.b.bitcast(a, kind), body.b.bitcast(b, kind)
    return body.b.bitcast(body.b.select(body.b.icmp_unsigned(">", first, second), first, second), a.type)
