"""Matrix products of many rows with sparse weights: a 1x1 convolution whose pixels are the rows.

x is turned to (inputs, rows), which are planes of one row; the result is turned back.
"""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.choice import Choice
from secateur.engine.layout import planes
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.conv import emit_conv
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.lowering.moves import View, move
from secateur.engine.lowering.pairs import pair_planes
from secateur.engine.weights.streams import Weights


def pixel_shape(rows: int, inputs: int, outputs: int, *, pairs: bool = False) -> ConvShape:
    """The convolution that a product of `rows` rows is.

    pairs    inputs are counted in pairs
    """
    return ConvShape(1, inputs, 1, rows, outputs, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, 1, rows, pairs=pairs)


def emit_pixels(
    context: Context,
    layer: str,
    rows: int,
    weight: Weights,
    bias: NDArray[np.float32] | None,
    x: Tensor,
    y: Tensor,
    choice: Choice,
    epilogue: Epilogue,
) -> tuple[int, str]:
    """Steps from a flat x to a flat y; returns the bytes of the weights and the kernel's name.

    weight    float32, or pairs of the inputs as uint32
    """
    outputs, columns = weight.shape
    shape = pixel_shape(rows, columns, outputs, pairs=weight.dtype == np.uint32)
    residual = _turned(context, epilogue.residual, rows, outputs) if epilogue.residual else None
    source = _turned(context, x, rows, x.layout.size // rows)
    source = pair_planes(context, source) if shape.pairs else source
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
