"""Elements copied one by one, for orders that vectors do not help with.

y[targets[row] + j target_step + i] = x[sources[row] + j source_step + i element_step]       i < length, j < count
"""

from dataclasses import dataclass

from secateur.engine.emit.builder import F32, I8, KernelModule


@dataclass(frozen=True)
class StridedCopy:
    """Units are rows of the tables.

    item    bytes of an element: 4 or 1
    """

    item: int = 4

    @property
    def name(self) -> str:
        """Symbol."""
        return "f32_strided_copy" if self.item == 4 else "u8_strided_copy"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables are i64 per row."""
        return ("x", "y", "sources", "targets", "count", "length", "source_step", "target_step", "element_step")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        kind = F32 if self.item == 4 else I8
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            x, y, sources, targets = (f.pointer(name) for name in self.fields[:4])
            count, length, source_step, target_step, element_step = (f.integer(name) for name in self.fields[4:])
            with f.loop(f.begin, f.end) as row:
                source = f.element(x, f.load_i64(sources, row), kind)
                target = f.element(y, f.load_i64(targets, row), kind)
                with f.loop(0, count) as j:
                    from_ = f.element(source, b.mul(j, source_step), kind)
                    to = f.element(target, b.mul(j, target_step), kind)
                    with f.loop(0, length) as i:
                        one = b.load(f.element(from_, b.mul(i, element_step), kind), typ=kind, align=self.item)
                        b.store(one, f.element(to, i, kind), align=self.item)
