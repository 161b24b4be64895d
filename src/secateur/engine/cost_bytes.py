"""What it costs to walk single channels of 8-bit integers, predicted: cycles of one thread (see cost).

    turn     max( 8 interleavings on one port,  (8 + products) / 2 ports )  +  t  +  missing lines x c2
    layer    tiles x panels x (turns x turn  +  end)  +  planes of bytes

A turn are four positions of a block of n rows and a vector of bytes, which is four vectors of sums. Constants were
measured on Cascade Lake.
"""

from collections.abc import Iterator

from secateur.engine.choice import Choice
from secateur.engine.emit.byte_planes import TOGETHER
from secateur.engine.emit.integers import has_dot
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.tiles import SINGLE
from secateur.engine.target import Target
from secateur.engine.weights.by_bytes import ROWS, TURN
from secateur.engine.weights.pattern import Pattern

INTERLEAVINGS = 8.0
PORTS = 2.0
CYCLES_OF_TURN = 1.0
# Of multiplying quads where no instruction does, beside taking both apart.
INSTRUCTIONS_WITHOUT_DOT = 4.0
CYCLES_PER_LINE_FROM_L2 = 0.6
IN_CACHE = 0.75
CYCLES_OF_END = 65.0
CYCLES_PER_PACKED = 14.0
CYCLES_PER_CONVERTED = 20.0
CYCLES_PER_CONVERTED_FAR = 60.0
# A block with zeros in it must still be worth it.
LEAST_FILL = 0.75


def byte_choices(shape: ConvShape, pattern: Pattern, target: Target) -> Iterator[Choice]:
    """Choices that come into question for 8-bit weights.

    pattern    of the single weights
    """
    if pattern.kind == "dense":
        return
    for block in (1, 2, ROWS):
        filled = block == 1 or pattern.fills.get(block, 0.0) > LEAST_FILL
        # Sums of a block, quads and a weight.
        if filled and (block + 1) * TOGETHER + 1 <= target.registers:
            yield Choice("bytes", "pack", block, TOGETHER)
            yield Choice("bytes", "direct", block, TOGETHER)


def predict_bytes(choice: Choice, shape: ConvShape, pattern: Pattern, target: Target) -> float:
    """Cycles of a layer on one thread. Arguments as for `byte_choices`."""
    block, width = choice.rows, 4 * target.lanes
    taps = shape.kernel[0] * shape.kernel[1]
    positions = TURN * (shape.c // shape.groups) * taps
    fill = pattern.fills.get(block, 1.0) if block > 1 else 1.0
    turns = positions * min(pattern.density / max(fill, 1e-9), 1.0) / TURN + 0.5

    each = 1.0 if has_dot(target) else INSTRUCTIONS_WITHOUT_DOT
    products = TOGETHER * (block * each + (0.0 if has_dot(target) else 2.0))
    packed = choice.primitive == "pack"
    rows = 1.0 if shape.pointwise or packed else 2.0  # lines that a vector of bytes lies in
    held = positions * width if packed else positions / taps * (width + 64.0) * shape.kernel[0]
    missing = max(0.0, 1 - IN_CACHE * target.l1 / held)
    turn = max(INTERLEAVINGS, (INTERLEAVINGS + products) / PORTS) + CYCLES_OF_TURN
    turn += missing * TURN * rows * CYCLES_PER_LINE_FROM_L2

    border = 0 if shape.pointwise else shape.out_border
    vectors = -(-(shape.out_h * (shape.out_w + border)) // target.lanes)
    tiles = shape.n * (vectors // TOGETHER + (0.0, SINGLE, 1.0, 1.0)[vectors % TOGETHER])
    panels = shape.groups * -(-(shape.o // shape.groups) // ROWS)
    total = tiles * panels * (ROWS / block * turns * turn + CYCLES_OF_END)
    if packed:
        return total + tiles * shape.groups * positions / TURN * CYCLES_PER_PACKED
    size = 4.0 * shape.n * shape.c * (shape.h + shape.border) * (shape.w + shape.border)
    far = size > target.l2 / 2
    return total + size / (4 * width) * (CYCLES_PER_CONVERTED_FAR if far else CYCLES_PER_CONVERTED)
