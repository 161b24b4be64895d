"""Softmax along rows of neighbouring elements, or across rows.

y = e^(x - m) / sum e^(x - m)       m = max x
log y = x - m - log sum e^(x - m)
"""

from dataclasses import dataclass
from math import inf

from secateur.engine.emit.builder import KernelBody, KernelModule, Value
from secateur.engine.emit.exponential import share
from secateur.engine.emit.logarithm import logarithm
from secateur.engine.emit.reductions import Reduction
from secateur.engine.emit.sweep import Block, sweep

_LARGEST, _TOTAL = Reduction("max"), Reduction("sum")


@dataclass(frozen=True)
class SoftmaxRows:
    """Units are rows of `length` elements.

    log    the logarithm of the softmax
    """

    log: bool

    @property
    def name(self) -> str:
        """Symbol."""
        return f"f32_{'log_' if self.log else ''}softmax_rows"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables are i64 per row."""
        return ("x", "y", "sources", "targets", "length")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            x, y, sources, targets = (f.pointer(name) for name in self.fields[:4])
            length = f.integer("length")
            with f.loop(f.begin, f.end) as row:
                source, target = f.element(x, f.load_i64(sources, row)), f.element(y, f.load_i64(targets, row))
                self._row(f, source, target, length)

    def _row(self, f: KernelBody, source: Value, target: Value, length: Value) -> None:
        b = f.b
        top, sums = f.var(f.vector, f.splat(-inf)), f.var(f.vector, f.splat(0.0))

        def largest(block: Block) -> None:
            top.set(_LARGEST.combine(f, top.get(), block.load(source, -inf)))

        sweep(f, 0, length, largest)
        m = f.splat(_LARGEST.fold(f, top.get()))

        def powers(block: Block) -> None:
            power = share(f, b.fsub(block.load(source), m))
            sums.set(b.fadd(sums.get(), block.inside(power)))
            if not self.log:
                block.store(power, target)

        sweep(f, 0, length, powers)
        whole = f.splat(_TOTAL.fold(f, sums.get()))
        last = logarithm(f, whole) if self.log else b.fdiv(f.splat(1.0), whole)

        def results(block: Block) -> None:
            if self.log:
                block.store(b.fsub(b.fsub(block.load(source), m), last), target)
            else:
                block.store(b.fmul(block.load(target), last), target)

        sweep(f, 0, length, results)


@dataclass(frozen=True)
class SoftmaxColumns:
    """Units are parts of `part` elements of rows, of which `count` lie `step` elements apart; the sum runs across them.

    log    the logarithm of the softmax
    """

    log: bool

    @property
    def name(self) -> str:
        """Symbol."""
        return f"f32_{'log_' if self.log else ''}softmax_columns"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables are i64 per row, steps in elements of the source and the target."""
        return ("x", "y", "sources", "targets", "length", "parts", "part", "count", "source_step", "target_step")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            x, y, sources, targets = (f.pointer(name) for name in self.fields[:4])
            length, parts, part = (f.integer(name) for name in self.fields[4:7])
            with f.loop(f.begin, f.end) as unit:
                row = b.sdiv(unit, parts)
                begin = b.mul(b.srem(unit, parts), part)
                end = f.smaller(length, b.add(begin, part))
                source, target = f.element(x, f.load_i64(sources, row)), f.element(y, f.load_i64(targets, row))
                sweep(f, begin, end, lambda block, s=source, t=target: self._column(f, block, s, t))

    def _column(self, f: KernelBody, block: Block, source: Value, target: Value) -> None:
        b = f.b
        count, source_step, target_step = (f.integer(name) for name in self.fields[7:])
        m, sums = f.var(f.vector, f.splat(-inf)), f.var(f.vector, f.splat(0.0))
        with f.loop(0, count) as k:
            m.set(_LARGEST.combine(f, m.get(), block.load(f.element(source, b.mul(k, source_step)))))
        with f.loop(0, count) as k:
            power = share(f, b.fsub(block.load(f.element(source, b.mul(k, source_step))), m.get()))
            sums.set(b.fadd(sums.get(), power))
            if not self.log:
                block.store(power, f.element(target, b.mul(k, target_step)))
        last = logarithm(f, sums.get()) if self.log else b.fdiv(f.splat(1.0), sums.get())
        with f.loop(0, count) as k:
            to = f.element(target, b.mul(k, target_step))
            if self.log:
                value = block.load(f.element(source, b.mul(k, source_step)))
                block.store(b.fsub(b.fsub(value, m.get()), last), to)
            else:
                block.store(b.fmul(block.load(to), last), to)
