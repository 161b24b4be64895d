"""Matrix products of many rows with sparse weights: a 1x1 convolution whose pixels are the rows.

x is turned to (inputs, rows), which are planes of one row; the result is turned back.
"""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.choice import Choice
from secateur.engine.cost import predict
from secateur.engine.layout import planes
from secateur.engine.lowering.context import Context, Decision, Tensor
from secateur.engine.lowering.conv import emit_conv
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.lowering.moves import View, move
from secateur.engine.registers import LATENCY, product_tile
from secateur.engine.target import Target
from secateur.engine.weights.pattern import Pattern

# Fewer rows are faster with the outputs in lanes.
LEAST_ROWS = 3
# A dense product reads its weights at this speed, and must be beaten by this part of its time.
BYTES_PER_CYCLE_FROM_L2 = 24.0
BYTES_PER_CYCLE = 8.0
MARGIN = 0.05
CYCLES_PER_TURNED_ELEMENT = 0.35


def pixel_shape(rows: int, inputs: int, outputs: int) -> ConvShape:
    """The convolution that a product of `rows` rows is."""
    return ConvShape(1, inputs, 1, rows, outputs, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, 1, rows)


def choose_pixels(
    context: Context, layer: str, rows: int, weight: NDArray[np.float32], pattern: Pattern
) -> tuple[Choice | None, Decision]:
    """How the convolution is to be computed, None where dense slabs are faster; and the chooser's decision."""
    outputs, inputs = weight.shape
    shape = pixel_shape(rows, inputs, outputs)
    decision = context.choose(layer, shape, weight[:, :, None, None], pattern)
    if decision.choice.format == "dense":
        return None, decision
    turned = max(rows, context.target.lanes) * (inputs + outputs)
    sparse = predict(decision.choice, shape, pattern, context.target) + CYCLES_PER_TURNED_ELEMENT * turned
    dense = dense_cycles(rows, inputs, outputs, context.target)
    if sparse < (1 - MARGIN) * dense:
        return decision.choice, decision
    reason = f"{100 * pattern.sparsity:.0f} % zeros would gain {100 * (dense / sparse - 1):.0f} % for {rows} rows"
    return None, Decision(decision.choice, reason, decision.candidates)


def dense_cycles(rows: int, inputs: int, outputs: int, target: Target) -> float:
    """Predicted cycles of dense slabs on one thread."""
    slab, together = product_tile(rows, outputs, 1, target)
    tiles, slabs = -(-rows // together), -(-outputs // (slab * target.lanes))
    height = rows / tiles
    arithmetic = slabs * tiles * inputs * max(slab * height / 2, (slab + height) / 2, LATENCY)
    size = 4.0 * inputs * outputs
    return max(arithmetic, size / (BYTES_PER_CYCLE_FROM_L2 if size <= 0.6 * target.l2 else BYTES_PER_CYCLE))


def emit_pixels(
    context: Context,
    layer: str,
    rows: int,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    x: Tensor,
    y: Tensor,
    choice: Choice,
    epilogue: Epilogue,
) -> tuple[int, str]:
    """Steps from a flat x to a flat y; returns the bytes of the weights and the kernel's name."""
    outputs, inputs = weight.shape
    shape = pixel_shape(rows, inputs, outputs)
    residual = _turned(context, epilogue.residual, rows, outputs) if epilogue.residual else None
    source = _turned(context, x, rows, inputs)
    result = context.temporary(planes((1, outputs, 1, rows)))
    own = Epilogue(residual, epilogue.activation, epilogue.slope)
    streams, kernel = emit_conv(context, layer, shape, weight[:, :, None, None], bias, source, result, choice, own)
    move(context, View(result, (1, result.planes.plane_stride)), View(y, (outputs, 1)), (rows, outputs))
    return streams.nbytes, kernel


def _turned(context: Context, tensor: Tensor, rows: int, columns: int) -> Tensor:
    """A flat (rows, columns) as planes (1, columns, 1, rows)."""
    turned = context.temporary(planes((1, columns, 1, rows)))
    move(context, View(tensor, (1, columns)), View(turned, (turned.planes.plane_stride, 1)), (columns, rows))
    return turned
