"""Which way a matrix product is computed: the one that is predicted cheapest (lowering.linear_cost).

A way that leaves zeros out must promise to beat the dense one by the margin, or the layer stays dense, with the reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from secateur.engine.choice import Choice
from secateur.engine.choose import MARGIN
from secateur.engine.cost import predict
from secateur.engine.lowering.context import Context
from secateur.engine.lowering.linear_cost import GATHERED_ROWS, dense_cycles, gathered_cycles, turned_cycles
from secateur.engine.lowering.linear_pixels import pixel_shape
from secateur.engine.weights.pattern import Pattern
from secateur.engine.weights.streams import Weights

# An index of a gathered weight has 16 bits.
MOST_INPUTS = 1 << 16
# Outputs that may share an index.
BLOCKS = (2, 4, 8, 16)
# Blocks that are half zeros never pay.
LEAST_FILL = 0.5
# Rows from which on they are tried as pixels; fewer leave lanes empty, and take long to tune.
LEAST_PIXELS = 3


@dataclass(frozen=True)
class Way:
    """How to compute a product: neither block nor choice means dense slabs.

    cycles       predicted
    block        outputs that share an index, where inputs are gathered
    choice       of the convolution whose pixels are the rows
    candidates   other choices of that and their seconds, where the layer was tuned
    """

    cycles: float
    block: int = 0
    choice: Choice | None = None
    candidates: tuple[tuple[Choice, float], ...] = ()


def choose_way(
    context: Context, layer: str, rows: int, weight: Weights, pattern: Pattern, *, pairs: bool = False
) -> tuple[Way, str]:
    """The cheapest way, and why zeros are not left out where there are some, or "".

    weight    float32, or pairs or quads as uint32
    """
    outputs, inputs = weight.shape
    dense = Way(dense_cycles(rows, inputs, outputs, context.target))
    if pattern.kind == "dense" or not context.zeros:
        return dense, ""
    ways = [*_gathered(context, rows, weight, pattern), *_pixels(context, layer, rows, weight, pattern, pairs)]
    best = min(ways, key=lambda way: way.cycles, default=dense)
    if best.cycles < (1 - MARGIN) * dense.cycles:
        return best, ""
    gain = 100 * (dense.cycles / best.cycles - 1) if ways else 0
    return dense, f"{100 * pattern.sparsity:.0f} % zeros would gain {gain:.0f} % for {rows} row{'s' * (rows != 1)}"


def _gathered(context: Context, rows: int, weight: Weights, pattern: Pattern) -> Iterator[Way]:
    if rows > 2 * GATHERED_ROWS or weight.shape[1] > MOST_INPUTS:
        return
    filled = [n for n in BLOCKS if n <= context.target.lanes and pattern.fills.get(n, 0) > LEAST_FILL]
    for block in (1, *filled):
        yield Way(gathered_cycles(rows, weight, block, context.target), block)


def _pixels(context: Context, layer: str, rows: int, weight: Weights, pattern: Pattern, pairs: bool) -> Iterator[Way]:
    if rows < LEAST_PIXELS or (weight.dtype != np.float32 and not pairs):
        return
    outputs, inputs = weight.shape
    shape = pixel_shape(rows, inputs, outputs, pairs=pairs)
    decision = context.choose(layer, shape, weight[:, :, None, None], pattern)
    if decision.choice.format != "dense":
        cycles = predict(decision.choice, shape, pattern, context.target)
        cycles += turned_cycles(rows, inputs, outputs, context.target)
        yield Way(cycles, 0, decision.choice, decision.candidates)
