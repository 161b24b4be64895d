"""Every file of lowerings, imported so that it registers its operators."""

from secateur.engine.lowering import convolution, linear

__all__ = ["convolution", "linear"]
