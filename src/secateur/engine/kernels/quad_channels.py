"""Channels of quads in any order, from any quads of one tensor.

    quad = (quad & keep) | sum over bytes j of  ((x[source_j] >> shift_j) & 255) << 8 j       outside of `keep`

A concatenation of tensors whose channels are no multiples of four takes one such step for each of them.
"""

from dataclasses import dataclass

from secateur.engine.emit.builder import I32, KernelModule, Value
from secateur.engine.emit.integers import as_floats, splat, spread, words
from secateur.engine.emit.sweep import Block, sweep
from secateur.engine.kernels.quad_rows import plane_rows

# 32-bit numbers per plane: four shifts, and the bits that stay as they are.
BIT_FIELDS = ("shift0", "shift1", "shift2", "shift3", "keep")


@dataclass(frozen=True)
class QuadChannels:
    """Units are parts of `rows` rows of planes of quads that are written.

    kept    some bits of some quads stay as they are
    """

    kept: bool = False

    @property
    def name(self) -> str:
        """Symbol."""
        return "u8_channels" + "_kept" * self.kept

    @property
    def fields(self) -> tuple[str, ...]:
        """Tables: four `sources` (i64) per plane, `targets` (i64), `bits` (BIT_FIELDS)."""
        return ("x", "y", "sources", "targets", "bits", "parts", "rows", "h", "w", "source_row", "target_row")

    def emit(self, module: KernelModule) -> None:
        """Write the function."""
        with module.kernel(self.name, self.fields) as f:
            b, kind = f.b, words(f)
            x, y, sources, targets, bits = (f.pointer(name) for name in self.fields[:5])
            source_row, target_row = f.integer("source_row"), f.integer("target_row")
            low = splat(kind, 0xFF)
            with f.loop(f.begin, f.end) as unit:
                plane, first, last = plane_rows(f, unit)
                at = b.mul(plane, f.i64(4))
                from_ = [f.element(x, f.load_i64(sources, b.add(at, f.i64(j)))) for j in range(4)]
                to = f.element(y, f.load_i64(targets, plane))
                record = b.mul(plane, f.i64(len(BIT_FIELDS)))
                numbers = [
                    spread(f, b.load(f.element(bits, b.add(record, f.i64(i)), I32), typ=I32), kind)
                    for i in range(len(BIT_FIELDS))
                ]
                shifts, keep = numbers[:4], numbers[4]
                with f.loop(first, last) as row:
                    lines = [f.element(start, b.mul(row, source_row)) for start in from_]
                    target = f.element(to, b.mul(row, target_row))

                    def make(block: Block, lines: list[Value] = lines, target: Value = target) -> None:
                        made = splat(kind, 0)
                        for j, (line, shift) in enumerate(zip(lines, shifts, strict=True)):
                            byte = b.and_(b.lshr(b.bitcast(block.load(line), kind), shift), low)
                            made = b.or_(made, b.shl(byte, splat(kind, 8 * j)))
                        if self.kept:
                            old = b.and_(b.bitcast(block.load(target), kind), keep)
                            made = b.or_(b.and_(made, b.not_(keep)), old)
                        block.store(as_floats(f, made), target)

                    sweep(f, 0, f.integer("w"), make)
