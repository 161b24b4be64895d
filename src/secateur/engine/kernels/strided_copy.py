"""Elements copied one by one, for orders that vectors do not help with.

y[targets[row] + j target_step + i] = x[sources[row] + j source_step + i element_step]       i < length, j < count
"""

from dataclasses import dataclass

from secateur.engine.emit.builder import KernelModule


@dataclass(frozen=True)
class StridedCopy:
    """Units are rows of the tables."""

    @property
    def name(self) -> str:
        """Symbol."""
        return "f32_strided_copy"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables are i64 per row."""
        return ("x", "y", "sources", "targets", "count", "length", "source_step", "target_step", "element_step")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            x, y, sources, targets = (f.pointer(name) for name in self.fields[:4])
            count, length, source_step, target_step, element_step = (f.integer(name) for name in self.fields[4:])
            with f.loop(f.begin, f.end) as row:
                source, target = f.element(x, f.load_i64(sources, row)), f.element(y, f.load_i64(targets, row))
                with f.loop(0, count) as j:
                    from_ = f.element(source, b.mul(j, source_step))
                    to = f.element(target, b.mul(j, target_step))
                    with f.loop(0, length) as i:
                        f.store_scalar(f.load_scalar(from_, b.mul(i, element_step)), to, i)
