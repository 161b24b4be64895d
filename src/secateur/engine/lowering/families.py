"""Every file of lowerings, imported so that it registers its operators."""

from secateur.engine.lowering import (
    conv_transpose,
    convolution,
    elementwise,
    linear,
    matmul,
    normalization,
    pooling,
    shape_ops,
)

__all__ = ["conv_transpose", "convolution", "elementwise", "linear", "matmul", "normalization", "pooling", "shape_ops"]
