"""Rows of any length: whole vectors, and a masked one for the rest."""

from collections.abc import Callable
from dataclasses import dataclass

from secateur.engine.emit.builder import KernelBody, Value


@dataclass(frozen=True)
class Block:
    """A vector of a row.

    index    element that it begins with
    mask     lanes inside the row; None where all are
    """

    body: KernelBody
    index: Value
    mask: Value | None

    def load(self, row: Value, other: float = 0.0) -> Value:
        """Elements of a row, `other` behind its end; memory there is not read."""
        if self.mask is None:
            return self.body.load(row, self.index)
        return self.body.load_masked(self.mask, row, self.index, other)

    def store(self, value: Value, row: Value) -> None:
        """Write the lanes inside the row."""
        if self.mask is None:
            self.body.store(value, row, self.index)
        else:
            self.body.store_masked(self.mask, value, row, self.index)

    def inside(self, value: Value, other: float = 0.0) -> Value:
        """The lanes inside the row, `other` elsewhere."""
        return value if self.mask is None else self.body.b.select(self.mask, value, self.body.splat(other))


def sweep(body: KernelBody, begin: Value | int, end: Value, visit: Callable[[Block], None]) -> None:
    """Write `visit` for the elements from `begin` to `end`: in a loop over whole vectors, and once for the rest."""
    b, lanes = body.b, body.lanes
    begin = body.i64(begin) if isinstance(begin, int) else begin
    whole = b.add(begin, b.and_(b.sub(end, begin), body.i64(-lanes)))
    with body.loop(begin, whole, lanes) as index:
        visit(Block(body, index, None))
    with body.if_(b.icmp_signed("<", whole, end)):
        visit(Block(body, whole, body.first_lanes(b.sub(end, whole))))
