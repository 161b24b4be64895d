"""Averages of whole maps of 8-bit integers.

    y[c] = round((sum over the map of x[c] - x_zero) scale) + zero        cut to 0..255, halves to the even number

Padding inside a plane holds x_zero, so sums run over it.
"""

from dataclasses import dataclass

from llvmlite import ir

from secateur.engine.emit.builder import I16, I32, KernelModule, Value, Var
from secateur.engine.emit.integers import channels, grouped, nearest, spread, words
from secateur.engine.emit.sweep import Block, sweep


@dataclass(frozen=True)
class QuadMean:
    """Units are planes of quads; one quad each."""

    @property
    def name(self) -> str:
        """Symbol."""
        return "u8_global_mean"

    @property
    def fields(self) -> tuple[str, ...]:
        """Per plane its first quad (i64); `length` quads from the first to the last of the map.

        below    what the sum of `length` bytes is lowered by
        """
        return ("x", "y", "sources", "length", "below", "scale", "zero")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b, kind = f.b, words(f)
            x, y, sources = (f.pointer(name) for name in self.fields[:3])
            length, scale = f.integer("length"), f.splat(f.number("scale"))
            below = spread(f, b.trunc(f.integer("below"), I32), kind)
            zero = spread(f, b.trunc(f.integer("zero"), I16), ir.VectorType(I16, 2 * f.lanes))
            with f.loop(f.begin, f.end) as unit:
                plane = f.element(x, f.load_i64(sources, unit))
                totals = [f.var(kind, ir.Constant(kind, [0] * f.lanes)) for _ in range(4)]

                def add(block: Block, plane: Value = plane, totals: list[Var] = totals) -> None:
                    for total, part in zip(totals, channels(f, b.bitcast(block.load(plane), kind)), strict=True):
                        total.set(b.add(total.get(), part))

                sweep(f, 0, length, add)
                # Halves of the lanes are added until one is left; then each channel is a lane.
                means = ir.Constant(kind, ir.Undefined)
                for j, total in enumerate(totals):
                    value, count = total.get(), f.lanes
                    while count > 1:
                        count //= 2
                        low, high = (f.shuffle(value, value, range(i, i + count)) for i in (0, count))
                        value = b.add(low, high)
                    one = b.extract_element(value, ir.Constant(I32, 0))
                    means = b.insert_element(means, one, ir.Constant(I32, j))
                units = b.fmul(b.sitofp(b.sub(means, below), f.vector), scale)
                made = b.bitcast(grouped(f, [nearest(f, units)] * 4, zero), kind)
                b.store(b.extract_element(made, ir.Constant(I32, 0)), f.element(y, unit), align=1)
