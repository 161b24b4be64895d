"""From the lanes of a vector to one number, by halves; the order is always the same."""

from dataclasses import dataclass
from math import inf

from llvmlite import ir

from secateur.engine.emit.builder import I32, KernelBody, Value


@dataclass(frozen=True)
class Reduction:
    """How numbers become one: a sum or a maximum.

    identity    what changes nothing
    """

    kind: str

    @property
    def identity(self) -> float:
        """0 or -inf."""
        return -inf if self.kind == "max" else 0.0

    def combine(self, body: KernelBody, total: Value, value: Value) -> Value:
        """Two numbers or vectors as one; a NaN in `value` stays."""
        return body.max(total, value) if self.kind == "max" else body.b.fadd(total, value)

    def fold(self, body: KernelBody, vector: Value) -> Value:
        """All lanes of a vector as one number."""
        count = vector.type.count
        while count > 1:
            count //= 2
            low, high = (body.shuffle(vector, vector, range(start, start + count)) for start in (0, count))
            vector = self.combine(body, low, high)
        return body.b.extract_element(vector, ir.Constant(I32, 0))
