"""What a choice costs, predicted: cycles of one thread (ENGINE.md 3.2, with caches).

    position     max( k V / f,  (s V + k + 1) / l,  instructions / i,  lambda,  weight bytes / b )  and  L2 lines x c2
    panel        sum over positions  +  c3 R V (blocks of positions)  +  exits of its loops
    layer        tiles x panels      +  packing or im2col

k nonzero rows at a position, V vectors, f multiply-adds, l loads and i instructions per cycle, s loads per unaligned
vector, lambda the latency of a multiply-add, whose accumulators are used again by the next position. Constants were
measured on Cascade Lake; they rank candidates, times come from the tuner.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import comb, sqrt

from secateur.engine.choice import Choice
from secateur.engine.cost_bytes import byte_choices, predict_bytes
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.registers import most_vectors
from secateur.engine.target import Target
from secateur.engine.weights.pattern import Pattern

FMA_PER_CYCLE = 2.0
LOADS_PER_CYCLE = 2.0
LATENCY = 4.0
INSTRUCTIONS_PER_CYCLE = 4.0
# Of the loop over positions, beside loads and multiply-adds; and to know where to prefetch.
LOOP_INSTRUCTIONS = 6
AHEAD_INSTRUCTIONS = 3
LOOP_EXIT = 14.0
# Fitted to layers of 8-bit integers, whose loops are shorter.
LOOP_EXIT_OF_QUADS = 10.0
# The longest of four rows is longer than their mean by so many standard deviations.
LONGEST_OF_FOUR = 1.03
SPLIT = 1.8
CYCLES_PER_LINE_FROM_L2 = 1.8
CYCLES_PER_SPLIT_LINE_FROM_L2 = 2.2
BYTES_PER_CYCLE_FROM_L2 = 24.0
BYTES_PER_CYCLE_FROM_L3 = 3.5
# Share of L1 that a tile's input can take: weights and results pass through too.
IN_CACHE = 0.75
# Positions (input channel, ky, kx) of a block whose tile stays in L1: 25 to 30 % faster for 3x3 layers.
IN_L1 = 288
IN_L1_OF_ROWS = 128
CYCLES_PER_COPIED_VECTOR = 4.5
CYCLES_PER_STORED_LINE = 3.0
CYCLES_PER_STORED_LINE_FAR = 12.0
# Where all tiles are computed for a few rows at a time, stores run along the planes.
CYCLES_PER_STORED_LINE_ALONG = 8.0
# Sums that wait in the output between two blocks of positions are stored and loaded.
CYCLES_PER_LINE_AGAIN = 5.0
CYCLES_PER_LINE_AGAIN_FAR = 28.0
FEW_WEIGHTS = 4096
# Vectors of tiles whose rows wait for each other: the tile stays in L1 for a few hundred positions.
LONG_TILE = 7
FEW_POSITIONS = 96
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

    def per_block(self, blocks: int) -> list[tuple[int, float]]:
        """Number of nonzero rows, and positions of that kind in a panel of one of so many blocks."""
        return [(index + 1, count / blocks) for index, count in enumerate(self.counts)]

    @property
    def weights(self) -> float:
        """Weights stored for a panel."""
        return sum((k + 1) * n for k, n in enumerate(self.counts))


def work_of(choice: Choice, pattern: Pattern, positions: int, *, sorted_: bool = True) -> Work:
    """The average panel of a choice. Zeros inside blocks count as weights; unstructured zeros are independent.

    sorted_    rows that walk in lockstep are about equally long
    """
    rows, d = choice.rows, pattern.density
    none = (0.0,) * (rows - 1)
    if choice.format == "dense":
        return Work((*none, float(positions)), 1)
    if choice.format == "block":
        fill = pattern.fills.get(rows)
        kept = d / fill if fill else 1 - (1 - d) ** rows
        return Work((*none, positions * min(kept, 1.0)), 1)
    if choice.format == "rows":
        mean = positions * d
        longest = mean if sorted_ else mean + LONGEST_OF_FOUR * sqrt(mean * (1 - d))
        return Work((rows * longest, *none), 1)
    counts = [positions * comb(rows, k) * d**k * (1 - d) ** (rows - k) for k in range(1, rows + 1)]
    most = choice.most or rows
    for k in range(rows, most, -1):
        whole, rest = divmod(k, most)
        counts[most - 1] += whole * counts[k - 1]
        if rest:
            counts[rest - 1] += counts[k - 1]
        counts[k - 1] = 0.0
    return Work(tuple(counts), sum(comb(rows, k) for k in range(1, most + 1)))


def _loops(rows: int, k: int) -> int:
    """Patterns of k nonzero rows."""
    return comb(rows, k)


def tile_bytes(choice: Choice, shape: ConvShape, width: float) -> float:
    """Input that a register tile of so many bytes reads for all panels, or for those of one block of positions."""
    taps = shape.kernel[0] * shape.kernel[1]
    positions = choice.block or shape.c // shape.groups * taps
    if choice.primitive != "direct" or shape.pointwise:
        return positions * width
    # The rows of taps, with a line more for the columns, are apart or overlap.
    rows, pitch = shape.kernel[0], 4 * (shape.out_w + shape.out_border)
    return positions / taps * (64 + min(rows * width + 64 * (rows - 1), width + (rows - 1) * pitch))


def prefetches(choice: Choice, shape: ConvShape, target: Target) -> bool:
    """Whether the kernel asks for inputs ahead: not where they come from L2 once and then stay in L1."""
    if choice.format not in ("dense", "block") or choice.primitive == "pack" or choice.rows < 4:
        return False
    near = shape.c * shape.h * shape.w * 4 <= target.l2 // 2
    stays = tile_bytes(choice, shape, choice.vectors * target.lanes * 4) <= IN_CACHE * target.l1
    return not (near and stays)


def predict(choice: Choice, shape: ConvShape, pattern: Pattern, target: Target) -> float:
    """Cycles of a layer on one thread."""
    if choice.format == "bytes":
        assert pattern.single
        return predict_bytes(choice, shape, pattern.single, target)
    lanes, line = target.lanes, 64.0
    positions = shape.c // shape.groups * shape.kernel[0] * shape.kernel[1]
    work = work_of(choice, pattern, positions, sorted_=not shape.quads)
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
    missing = max(0.0, 1 - (0.9 if aligned else IN_CACHE) * target.l1 / tile_bytes(choice, shape, v * lanes * 4))
    lines = missing * v * lanes * 4 / line
    prefetched = prefetches(choice, shape, target)
    stored = 2.0 * work.positions + 4.0 * work.weights
    bandwidth = BYTES_PER_CYCLE_FROM_L2 if stored * panels <= 0.6 * target.l2 else BYTES_PER_CYCLE_FROM_L3

    cycles = 0.0
    for index, count in enumerate(work.counts):
        k = index + 1
        loads = loads_per_vector * v + k + (2 if choice.format == "rows" else 1) + (v if prefetched else 0)
        latency = LATENCY / (choice.rows if choice.format == "rows" else 1)
        # An input that is used once is an operand of its multiply-add.
        loaded = v if k > 1 or shape.quads else 0
        instructions = k * v + loaded + k + LOOP_INSTRUCTIONS + (v + AHEAD_INSTRUCTIONS if prefetched else 0)
        busy = max(
            *(k * v / FMA_PER_CYCLE, loads / LOADS_PER_CYCLE, instructions / INSTRUCTIONS_PER_CYCLE, latency),
            (2 + 4 * k) / bandwidth,
        )
        # Prefetched lines arrive beside the work, others in front of it.
        waiting = lines * (CYCLES_PER_LINE_FROM_L2 if aligned else CYCLES_PER_SPLIT_LINE_FROM_L2)
        cycles += count * (max(busy, waiting) + 0.25 * waiting if prefetched else busy + 0.8 * waiting)
    exits = sum(
        min(1.0, 2.0 * count / _loops(choice.rows, k)) * _loops(choice.rows, k) for k, count in work.per_block(blocks)
    )
    if choice.format != "panel":
        exits = 1.0
    # Outputs travel through the cache once, and twice more for every further block of positions.
    output = shape.n * shape.o * shape.out_h * shape.out_w * (1 if shape.quads else 4)
    per_vector = CYCLES_PER_STORED_LINE if output <= target.l2 else CYCLES_PER_STORED_LINE_FAR
    if choice.resident and output > target.l2:
        per_vector = CYCLES_PER_STORED_LINE_ALONG
    per_block = CYCLES_PER_LINE_AGAIN if output < target.l2 / 2 else CYCLES_PER_LINE_AGAIN_FAR
    leaving = LOOP_EXIT_OF_QUADS if shape.quads else LOOP_EXIT
    overhead = blocks * leaving * (1 + exits) + choice.rows * v * (per_vector + (blocks - 1) * per_block)
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
    if pattern.single:
        found += byte_choices(shape, pattern.single, target)
    # The im2col matrix of a pointwise layer is its input.
    chosen = [
        choice
        for choice in found
        if primitive in ("auto", choice.primitive) and not (choice.primitive == "gemm" and shape.pointwise)
    ]
    return list(dict.fromkeys(chosen))


def _blocks(shape: ConvShape) -> tuple[int | None, ...]:
    """Positions per block: all, and what keeps a tile of a k x k convolution in L1.

    Sums of quads cannot wait in the output, which has a quarter of their size.
    """
    if shape.quads:
        return (None,)
    taps = shape.kernel[0] * shape.kernel[1]
    positions = shape.c // shape.groups * taps
    if shape.pointwise or positions <= IN_L1:
        return (None,)
    return (None, max(taps, IN_L1 // taps * taps))


def _few_positions(shape: ConvShape) -> bool:
    return shape.pointwise and shape.c // shape.groups <= FEW_POSITIONS


def _dense(shape: ConvShape, target: Target) -> Iterator[Choice]:
    for rows in _heights((6, 8, 4) if target.registers >= 32 else (4, 6), shape):
        vectors = most_vectors(rows, target, quads=shape.quads)
        for block in _blocks(shape):
            yield Choice("dense", "direct", rows, vectors, block)
        if _few_positions(shape):
            yield Choice("dense", "direct", rows, vectors, None, FEW_WEIGHTS)
        yield Choice("dense", "gemm", rows, vectors)
        yield Choice("dense", "pack", rows, vectors)


def _heights(rows: Iterable[int], shape: ConvShape) -> list[int]:
    """Those of the numbers of rows that a panel may have: whole quads of results where results are quads."""
    return [r for r in rows if not shape.quads or r % 4 == 0]


def _sparse(shape: ConvShape, pattern: Pattern, target: Target) -> Iterator[Choice]:
    for rows in _heights(pattern.fills, shape):
        fill, vectors = pattern.fills[rows], most_vectors(rows, target, quads=shape.quads)
        if fill > 0.75 and vectors > 0:
            for block in _blocks(shape):
                yield Choice("block", "direct", rows, vectors, block)
            if _few_positions(shape):
                yield Choice("block", "direct", rows, vectors, None, FEW_WEIGHTS)
            yield Choice("block", "gemm", rows, vectors)
            yield Choice("block", "pack", rows, vectors)
    if pattern.kind == "blocks" and pattern.fill > 0.97:
        return
    for rows in _heights((4,) if target.registers >= 32 else (2, 4), shape):
        vectors = most_vectors(rows, target, quads=shape.quads)
        deep = shape.pointwise and shape.c // shape.groups > IN_L1_OF_ROWS and not shape.quads
        for block in (None, IN_L1_OF_ROWS) if deep else _blocks(shape):
            yield Choice("rows", "direct", rows, vectors, block)
        yield Choice("rows", "gemm", rows, vectors)
        yield Choice("rows", "pack", rows, vectors)
    # Six rows would have 63 loops: a second to compile, and no faster than four.
    for rows in _heights((1, 2, 3, 4), shape):
        vectors = most_vectors(rows, target, quads=shape.quads)
        if shape.quads and vectors < LONG_TILE <= target.registers // 4:
            yield Choice("panel", "direct", rows, LONG_TILE, most=1)
        for most in (2, None) if shape.quads else (None,):
            for block in _blocks(shape):
                yield Choice("panel", "direct", rows, vectors, block, most=most)
            yield Choice("panel", "gemm", rows, vectors, most=most)
            yield Choice("panel", "pack", rows, vectors, most=most)
        if not shape.quads and shape.c // shape.groups * shape.kernel[0] * shape.kernel[1] > IN_L1:
            yield Choice("panel", "pack", rows, vectors, IN_L1)
