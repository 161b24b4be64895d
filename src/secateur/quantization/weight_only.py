"""Weights stored as integers, computed with as floats: a smaller file, the same speed.

Every weight is dequantized by a DequantizeLinear when it is used. No images are needed, as no activation is rounded.
"""

from collections.abc import Collection

import onnx

from secateur.quantization.calibrate import weight_scales
from secateur.quantization.numbers import WEIGHTS, Numbers
from secateur.quantization.points import points_of
from secateur.quantization.prepare import prepared
from secateur.quantization.qdq import write_qdq
from secateur.quantization.settings import Override, Settings, chooser
from secateur.quantization.table import ScaleTable


def quantize_weights(
    model: onnx.ModelProto,
    weights: Numbers = WEIGHTS,
    *,
    per_channel: bool = True,
    keep_float: Collection[str] = (),
    overrides: tuple[Override, ...] = (),
    packed: bool = False,
) -> tuple[onnx.ModelProto, ScaleTable]:
    """The model with its weights as integers of 2 to 16 bits, and their scales.

    keep_float    layers whose weights stay float: globs of node names, kinds, `first`, `last`
    packed        weights of 4 bits and fewer lie two in a byte (opset 21)
    raises        ModelError, QuantizationError
    """
    plain = prepared(model)
    points = points_of(plain, keep_float=keep_float)
    settings = chooser(plain, Settings(weights=weights, per_channel=per_channel), overrides)
    table = ScaleTable({}, weight_scales(plain, points, settings), points.floats)
    return write_qdq(plain, table, packed=packed), table
