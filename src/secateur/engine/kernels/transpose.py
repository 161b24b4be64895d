"""Blocks of elements whose rows become columns.

    y[targets[u] + j target_step + i] = x[sources[u] + i source_step + j]       i < rows, j < widths[u] <= lanes

A block of lanes x lanes elements is loaded row by row, turned by shuffles in registers, and stored row by row. Blocks
at the edges load and store through masks; rows outside are loaded again from the last one inside.
"""

from dataclasses import dataclass

from secateur.engine.emit.builder import KernelBody, KernelModule, Value

# Elements from a store to the line that is fetched meanwhile: rows of a block are written too far apart for the
# processor to foresee the next ones.
AHEAD = 64


@dataclass(frozen=True)
class Transpose:
    """Units are strips of at most `lanes` columns."""

    @property
    def name(self) -> str:
        """Symbol."""
        return "f32_transpose"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables are i64 per unit."""
        return ("x", "y", "sources", "targets", "widths", "rows", "source_step", "target_step")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b, lanes = f.b, f.lanes
            x, y, sources, targets, widths = (f.pointer(name) for name in self.fields[:5])
            rows, source_step, target_step = (f.integer(name) for name in self.fields[5:])
            with f.loop(f.begin, f.end) as unit:
                wide = f.load_i64(widths, unit)
                inside = f.first_lanes(wide)
                source = f.element(x, f.load_i64(sources, unit))
                target = f.element(y, f.load_i64(targets, unit))
                with f.loop(0, rows, lanes) as i:
                    high = f.smaller(f.i64(lanes), b.sub(rows, i))
                    block = [
                        f.load_masked(inside, source, b.mul(f.smaller(b.add(i, f.i64(k)), last), source_step))
                        for last in [b.sub(rows, f.i64(1))]
                        for k in range(lanes)
                    ]
                    stored = f.first_lanes(high)
                    for k, vector in enumerate(_turned(f, block)):
                        with f.if_(b.icmp_signed("<", f.i64(k), wide)):
                            to = f.element(target, b.add(b.mul(target_step, f.i64(k)), i))
                            f.prefetch(f.element(to, AHEAD))
                            f.store_masked(stored, vector, to)


def _turned(f: KernelBody, block: list[Value]) -> list[Value]:
    """Rows of a square block as columns: swaps quarters of ever smaller squares."""
    lanes = len(block)
    half = lanes // 2
    while half:
        low = [i if not i & half else lanes + i - half for i in range(lanes)]
        high = [i + half if not i & half else lanes + i for i in range(lanes)]
        turned = list(block)
        for i in range(lanes):
            if not i & half:
                turned[i] = f.shuffle(block[i], block[i + half], low)
                turned[i + half] = f.shuffle(block[i], block[i + half], high)
        block, half = turned, half // 2
    return block
