"""What a choice costs, predicted: cycles of one thread (ENGINE.md 3.2, with caches).

    position     max( k V / f,  (s V + k + 1) / l,  lambda,  lines from L2 x c2,  weight bytes / b )
    panel        sum over positions  +  1.5 R V  +  exit (loops of the panel)
    layer        tiles x panels      +  packing or im2col

k nonzero rows at a position, V vectors, f multiply-adds and l loads per cycle, s loads per unaligned vector, lambda the
latency of a multiply-add, whose accumulators are used again by the next position. Constants were measured on Cascade
Lake; they rank candidates, times come from the tuner.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb

from secateur.engine.choice import Choice
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.registers import most_vectors
from secateur.engine.target import Target
from secateur.engine.weights.pattern import Pattern

FMA_PER_CYCLE = 2.0
LOADS_PER_CYCLE = 2.0
LATENCY = 4.0
LOOP_EXIT = 14.0
SPLIT = 1.9
CYCLES_PER_LINE_FROM_L2 = 1.8
BYTES_PER_CYCLE_FROM_L2 = 24.0
BYTES_PER_CYCLE_FROM_L3 = 5.0
CYCLES_PER_COPIED_VECTOR = 2.0
# Written once and read once per tile, stores included.
CYCLES_PER_LINE_THROUGH_L2 = 8.0
CYCLES_PER_LINE_THROUGH_L3 = 30.0


@dataclass(frozen=True)
class Work:
    """Positions of one panel by number of nonzero rows, on average."""

    counts: tuple[float, ...]  # index k - 1
    loops: int

    @property
    def positions(self) -> float:
        """All positions of a panel."""
        return sum(self.counts)

    @property
    def weights(self) -> float:
        """Weights stored for a panel."""
        return sum((k + 1) * n for k, n in enumerate(self.counts))


def work_of(choice: Choice, pattern: Pattern, positions: int) -> Work:
    """The average panel of a choice. Zeros inside blocks count as weights; unstructured zeros are independent."""
    rows, d = choice.rows, pattern.density
    none = (0.0,) * (rows - 1)
    if choice.format == "dense":
        return Work((*none, float(positions)), 1)
    if choice.format == "block":
        fill = pattern.fills.get(rows)
        kept = d / fill if fill else 1 - (1 - d) ** rows
        return Work((*none, positions * min(kept, 1.0)), 1)
    counts = tuple(positions * comb(rows, k) * d**k * (1 - d) ** (rows - k) for k in range(1, rows + 1))
    return Work(counts, 2**rows - 1)


def predict(choice: Choice, shape: ConvShape, pattern: Pattern, target: Target) -> float:
    """Cycles of a layer on one thread."""
    lanes, line = target.lanes, 64.0
    taps = shape.kernel[0] * shape.kernel[1]
    positions = shape.c // shape.groups * taps
    work = work_of(choice, pattern, positions)
    vectors = shape.n * -(-(shape.out_h * (shape.out_w + shape.out_border)) // lanes)
    if choice.primitive == "gemm":
        vectors = shape.n * -(-(shape.out_h * shape.out_w) // lanes)
    per_image = vectors // shape.n
    tiles = shape.n * -(-per_image // choice.vectors)
    v = vectors / tiles
    panels = shape.groups * -(-(shape.o // shape.groups) // choice.rows)
    blocks = -(-positions // choice.block) if choice.block else 1

    aligned = choice.primitive != "direct" or shape.pointwise
    loads_per_vector = 1.0 if aligned else SPLIT
    tile_bytes = (choice.block or positions) * v * lanes * 4
    if not aligned:
        tile_bytes = tile_bytes / taps * shape.kernel[0] * (v + 1) / v
    lines = 0.0 if tile_bytes <= 0.7 * target.l1 else v * lanes * 4 / line
    stored = 2.0 * work.positions + 4.0 * work.weights
    from_l2 = stored * panels <= 0.6 * target.l2
    bandwidth = BYTES_PER_CYCLE_FROM_L2 if from_l2 else BYTES_PER_CYCLE_FROM_L3

    cycles = 0.0
    for index, count in enumerate(work.counts):
        k = index + 1
        cycles += count * max(
            k * v / FMA_PER_CYCLE,
            (loads_per_vector * v + k + 1) / LOADS_PER_CYCLE,
            LATENCY,
            lines * CYCLES_PER_LINE_FROM_L2,
            (2 + 4 * k) / bandwidth,
        )
    overhead = blocks * (1.5 * choice.rows * v + LOOP_EXIT * min(work.loops, 1 + work.positions / blocks))
    total = tiles * panels * (cycles + overhead)
    if choice.primitive == "pack":
        total += tiles * positions * shape.groups * v * CYCLES_PER_COPIED_VECTOR
    if choice.primitive == "gemm" and not shape.pointwise:
        written = vectors * positions * shape.groups
        far = written * lanes * 4 > target.l2 / 2
        total += written * (CYCLES_PER_LINE_THROUGH_L3 if far else CYCLES_PER_LINE_THROUGH_L2)
    elif shape.strides != (1, 1):
        total += shape.c * shape.h * shape.w / lanes * CYCLES_PER_COPIED_VECTOR
    return total


def candidates(shape: ConvShape, pattern: Pattern, target: Target, primitive: str = "auto") -> list[Choice]:
    """Choices that come into question, dense ones first."""
    found = list(_dense(shape, target))
    if pattern.kind != "dense":
        found += _sparse(shape, pattern, target)
    chosen = [choice for choice in found if primitive in ("auto", choice.primitive)]
    return list(dict.fromkeys(chosen))


def _primitives(shape: ConvShape) -> tuple[str, ...]:
    return ("direct", "pack") if shape.pointwise else ("direct", "gemm", "pack")


def _dense(shape: ConvShape, target: Target) -> Iterator[Choice]:
    for rows in (6, 8, 4) if target.registers >= 32 else (4, 6):
        for primitive in _primitives(shape):
            yield Choice("dense", primitive, rows, most_vectors(rows, target))  # type: ignore[arg-type]


def _sparse(shape: ConvShape, pattern: Pattern, target: Target) -> Iterator[Choice]:
    positions = shape.c // shape.groups * shape.kernel[0] * shape.kernel[1]
    blocks = [rows for rows, fill in pattern.fills.items() if fill > 0.75 and most_vectors(rows, target) > 0]
    for rows in blocks:
        for primitive in _primitives(shape):
            yield Choice("block", primitive, rows, most_vectors(rows, target))  # type: ignore[arg-type]
    if pattern.kind == "blocks" and pattern.fill > 0.97:
        return
    for rows in (1, 2, 3, 4):
        vectors = most_vectors(rows, target)
        if rows == 1:
            vectors = min(vectors, 12)
        for primitive in _primitives(shape):
            yield Choice("panel", primitive, rows, vectors)  # type: ignore[arg-type]
        for block in (64, 128, 256, 512):
            if block < positions:
                yield Choice("panel", "pack", rows, vectors, block)
