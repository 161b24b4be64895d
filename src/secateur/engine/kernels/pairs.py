"""Floats rounded to bf16, two of them in one element of 4 bytes (emit.pairs).

planes    y[target + i] = (x[low + i], x[high + i])        two channels of a pixel; 0 for a channel that is missing
rows      y[row, i]     = (x[row, 2 i], x[row, 2 i + 1])   two neighbours; 0 behind the end of a row
"""

from dataclasses import dataclass

from secateur.engine.emit.builder import I32, KernelBody, KernelModule, Value
from secateur.engine.emit.integers import as_floats, spread, words
from secateur.engine.emit.pairs import pairs, rounded


@dataclass(frozen=True)
class PairPlanes:
    """Units are parts of `part` elements of planes of `length`, whole vectors.

    What lies between and behind the rows of planes goes along: zeros become pairs of zeros.
    """

    @property
    def name(self) -> str:
        """Symbol."""
        return "bf16_pair_planes"

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables: two `sources` (i64) per plane of pairs, `targets` (i64), `masks` (i32): the bits of a second."""
        return ("x", "y", "sources", "targets", "masks", "parts", "part", "length")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b = f.b
            x, y, sources, targets, masks = (f.pointer(name) for name in self.fields[:5])
            parts, part, length = (f.integer(name) for name in self.fields[5:])
            with f.loop(f.begin, f.end) as unit:
                plane, first = b.sdiv(unit, parts), b.mul(b.srem(unit, parts), part)
                at = b.mul(plane, f.i64(2))
                low, high = (f.element(x, f.load_i64(sources, b.add(at, f.i64(j)))) for j in (0, 1))
                target = f.element(y, f.load_i64(targets, plane))
                mask = spread(f, f.load_scalar(masks, plane, I32), words(f))
                with f.loop(first, f.smaller(length, b.add(first, part)), f.lanes) as i:
                    made = pairs(f, rounded(f, f.load(low, i)), rounded(f, f.load(high, i)), mask)
                    f.store(as_floats(f, made), target, i)


@dataclass(frozen=True)
class PairRows:
    """Units are rows: `inputs` floats become `pairs` elements."""

    @property
    def name(self) -> str:
        """Symbol."""
        return "bf16_pair_rows"

    @property
    def fields(self) -> tuple[str, ...]:
        """`pairs` is half of `inputs`, rounded up."""
        return ("x", "y", "inputs", "pairs")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b, lanes = f.b, f.lanes
            inputs, count = f.integer("inputs"), f.integer("pairs")
            whole = b.and_(b.sdiv(inputs, f.i64(2)), f.i64(-lanes))
            with f.loop(f.begin, f.end) as row:
                source = f.element(f.pointer("x"), b.mul(row, inputs))
                target = f.element(f.pointer("y"), b.mul(row, count))
                with f.loop(0, whole, lanes) as i:
                    at = f.element(source, b.mul(i, f.i64(2)))
                    f.store(_neighbours(f, f.load(at), f.load(at, lanes)), target, i)
                with f.loop(whole, count, lanes) as i:
                    first = b.mul(i, f.i64(2))
                    left = b.sub(inputs, first)
                    at = f.element(source, first)
                    low = f.load_masked(f.first_lanes(left), at)
                    high = f.load_masked(f.first_lanes(b.sub(left, f.i64(lanes))), at, lanes)
                    f.store_masked(f.first_lanes(b.sub(count, i)), _neighbours(f, low, high), target, i)


def _neighbours(f: KernelBody, first: Value, second: Value) -> Value:
    """Two vectors of floats one behind the other as one of pairs."""
    even, odd = (f.shuffle(first, second, range(k, 2 * f.lanes, 2)) for k in (0, 1))
    return as_floats(f, pairs(f, rounded(f, even), rounded(f, odd)))
