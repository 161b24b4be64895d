"""Every file of lowerings, imported so that it registers its operators."""

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
    resize,
    shape_ops,
)

__all__ = [
    "cast",
    "conv_transpose",
    "convolution",
    "elementwise",
    "gather",
    "linear",
    "matmul",
    "normalization",
    "pad",
    "pooling",
    "resize",
    "shape_ops",
]
