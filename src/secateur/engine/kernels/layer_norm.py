"""Layer normalization of rows.

    y = (x - mean) / sqrt(variance + epsilon) scale + bias          variance = mean of (x - mean)^2

The mean is taken in two walks, the second of differences from the first result m, and the variance with it:

    mean = m + s,   s = mean of (x - m),   variance = mean of (x - m)^2 - s^2

so that no digits are lost however large the mean is (Chan, Golub & LeVeque 1983, the corrected two-pass algorithm).
"""

from dataclasses import dataclass

from secateur.engine.emit.builder import KernelBody, KernelModule, Value
from secateur.engine.emit.reductions import Reduction
from secateur.engine.emit.sweep import Block, sweep
from secateur.engine.kernels.mean import row_sum


@dataclass(frozen=True)
class LayerNorm:
    """Units are rows of `length` elements.

    biased    a bias is added
    """

    biased: bool

    @property
    def name(self) -> str:
        """Symbol."""
        return f"f32_layer_norm{'_biased' if self.biased else ''}"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables are i64 per row; `count` is the length as a number."""
        return ("x", "y", "sources", "targets", "scale", "bias", "length", "count", "epsilon")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            x, y, sources, targets = (f.pointer(name) for name in self.fields[:4])
            with f.loop(f.begin, f.end) as row:
                source, target = f.element(x, f.load_i64(sources, row)), f.element(y, f.load_i64(targets, row))
                self._row(f, source, target)

    def _row(self, f: KernelBody, source: Value, target: Value) -> None:
        b = f.b
        scale, bias, length, count = f.pointer("scale"), f.pointer("bias"), f.integer("length"), f.number("count")
        about = f.splat(b.fdiv(row_sum(f, source, length), count))
        sums, squares = f.var(f.vector, f.splat(0.0)), f.var(f.vector, f.splat(0.0))

        def add(block: Block) -> None:
            distance = block.inside(b.fsub(block.load(source), about))
            sums.set(b.fadd(sums.get(), distance))
            squares.set(f.fma(distance, distance, squares.get()))

        sweep(f, 0, length, add)
        total = Reduction("sum")
        rest = b.fdiv(total.fold(f, sums.get()), count)
        variance = f.fma(b.fneg(rest), rest, b.fdiv(total.fold(f, squares.get()), count))
        deviation = f.call("sqrt", b.fadd(f.max(f.f32(0.0), variance), f.number("epsilon")))
        inverse, shift = f.splat(b.fdiv(f.f32(1.0), deviation)), f.splat(rest)

        def normalize(block: Block) -> None:
            distance = b.fsub(b.fsub(block.load(source), about), shift)
            value = b.fmul(b.fmul(distance, inverse), block.load(scale))
            block.store(b.fadd(value, block.load(bias)) if self.biased else value, target)

        sweep(f, 0, length, normalize)
