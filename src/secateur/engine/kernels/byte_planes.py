"""Quads as planes of bytes, one a channel, with all that lies between and around them.

    y[j distance + i] = byte j of quad x[i - before]        0 <= i < size, 0 <= j < 4

The memory of a tensor is taken as it is, planes or tiles: a place in it counts quads, and bytes of each of the four
arrays just as well.
"""

from dataclasses import dataclass

from secateur.engine.emit.builder import KernelModule
from secateur.engine.emit.byte_planes import TOGETHER, apart
from secateur.engine.emit.integers import load_quads

# Quads of a turn on the widest vectors.
STEP = 64


@dataclass(frozen=True)
class BytePlanes:
    """Units are parts of `part` quads, of `size` in all; both are multiples of STEP."""

    @property
    def name(self) -> str:
        """Symbol."""
        return "u8_byte_planes"

    @property
    def fields(self) -> tuple[str, ...]:
        """Numbers of quads; `distance` in bytes."""
        return ("x", "y", "before", "size", "part", "distance")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            before, size, part, distance = map(f.integer, self.fields[2:])
            x, y = f.element(f.pointer("x"), b.neg(before)), f.pointer("y")
            targets = [f.at(y, b.mul(distance, f.i64(j))) for j in range(4)]
            end = f.smaller(size, b.mul(f.end, part))
            with f.loop(b.mul(f.begin, part), end, TOGETHER * f.lanes) as i:
                quads = [load_quads(f, f.element(x, i), v * f.lanes) for v in range(TOGETHER)]
                for target, plane in zip(targets, apart(f, quads), strict=True):
                    b.store(plane, f.at(target, i), align=1)
