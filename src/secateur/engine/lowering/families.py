"""Every file of lowerings, imported so that it registers its operators, and the full registry."""

from secateur.engine.lowering import (
    cast,
    conv_transpose,
    convolution,
    elementwise,
    gather,
    linear,
    matmul,
    normalization,
    pad,
    pooling,
    quad_convolution,
    quad_elementwise,
    quad_pooling,
    quantize,
    resize,
    shape_ops,
    squeeze_excite,
)
from secateur.engine.lowering.context import lowerings

__all__ = [
    "cast",
    "conv_transpose",
    "convolution",
    "elementwise",
    "gather",
    "linear",
    "lowerings",
    "matmul",
    "normalization",
    "pad",
    "pooling",
    "quad_convolution",
    "quad_elementwise",
    "quad_pooling",
    "quantize",
    "resize",
    "shape_ops",
    "squeeze_excite",
]
