"""Means along rows of neighbouring elements, or across rows.

Sums run in one vector of partial sums (rows) or in order (columns), always the same way.
"""

from dataclasses import dataclass

from secateur.engine.emit.builder import KernelBody, KernelModule, Value
from secateur.engine.emit.reductions import Reduction
from secateur.engine.emit.sweep import Block, sweep


@dataclass(frozen=True)
class MeanRows:
    """Units are rows of `length` elements; one number each."""

    @property
    def name(self) -> str:
        """Symbol."""
        return "f32_mean_rows"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables are i64 per row."""
        return ("x", "y", "sources", "targets", "length", "count")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            x, y, sources, targets = (f.pointer(name) for name in self.fields[:4])
            length, count = f.integer("length"), f.number("count")
            with f.loop(f.begin, f.end) as row:
                total = row_sum(f, f.element(x, f.load_i64(sources, row)), length)
                f.store_scalar(f.b.fdiv(total, count), y, f.load_i64(targets, row))


def row_sum(f: KernelBody, source: Value, length: Value) -> Value:
    """The sum of a row."""
    sums = f.var(f.vector, f.splat(0.0))

    def add(block: Block) -> None:
        sums.set(f.b.fadd(sums.get(), block.load(source)))

    sweep(f, 0, length, add)
    return Reduction("sum").fold(f, sums.get())


@dataclass(frozen=True)
class MeanColumns:
    """Units are parts of `part` elements of rows, of which `rows` lie `step` elements apart: the mean across them."""

    @property
    def name(self) -> str:
        """Symbol."""
        return "f32_mean_columns"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables are i64 per row, the step in elements."""
        return ("x", "y", "sources", "targets", "length", "parts", "part", "rows", "step", "count")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            x, y, sources, targets = (f.pointer(name) for name in self.fields[:4])
            length, parts, part, rows, step = (f.integer(name) for name in self.fields[4:9])
            count = f.splat(f.number("count"))
            with f.loop(f.begin, f.end) as unit:
                row = b.sdiv(unit, parts)
                begin = b.mul(b.srem(unit, parts), part)
                end = f.smaller(length, b.add(begin, part))
                source, target = f.element(x, f.load_i64(sources, row)), f.element(y, f.load_i64(targets, row))

                def column(block: Block, source: Value = source, target: Value = target) -> None:
                    total = f.var(f.vector, f.splat(0.0))
                    with f.loop(0, rows) as k:
                        total.set(b.fadd(total.get(), block.load(f.element(source, b.mul(k, step)))))
                    block.store(b.fdiv(total.get(), count), target)

                sweep(f, begin, end, column)
