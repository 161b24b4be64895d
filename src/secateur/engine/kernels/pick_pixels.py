"""Planes of pixels picked by a table, out of maps that lie in any order.

y[targets[plane] + row target_row + i] = x[sources[plane] + pixels[row w + i]]        row < h, i < w
"""

from dataclasses import dataclass

from secateur.engine.emit.builder import I32, KernelModule


@dataclass(frozen=True)
class PickPixels:
    """Units are planes. `sources` and `targets` are tables of i64, `pixels` one of i32, all in elements."""

    @property
    def name(self) -> str:
        """Symbol."""
        return "f32_pick_pixels"

    @property
    def fields(self) -> tuple[str, ...]:
        """Argument slots."""
        return ("x", "y", "sources", "targets", "pixels", "h", "w", "target_row")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            x, y, sources, targets, pixels = (f.pointer(name) for name in self.fields[:5])
            h, w, target_row = (f.integer(name) for name in self.fields[5:])
            with f.loop(f.begin, f.end) as plane:
                source, target = f.element(x, f.load_i64(sources, plane)), f.element(y, f.load_i64(targets, plane))
                with f.loop(0, h) as row:
                    picks = f.element(pixels, b.mul(row, w), I32)
                    to = f.element(target, b.mul(row, target_row))
                    with f.loop(0, w) as i:
                        f.store_scalar(f.load_scalar(source, f.load_i64(picks, i, I32)), to, i)
