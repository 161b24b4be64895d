"""Every file of lowerings, imported so that it registers its operators."""

from secateur.engine.lowering import convolution, elementwise, linear, normalization, pooling, shape_ops

__all__ = ["convolution", "elementwise", "linear", "normalization", "pooling", "shape_ops"]
