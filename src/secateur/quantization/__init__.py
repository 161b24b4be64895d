"""Numbers of few bits for weights and activations: calibrated, learned, written so that runtimes compute with them."""

from secateur.quantization.numbers import (
    ACTIVATIONS,
    WEIGHTS,
    Numbers,
    Scale,
    rounded,
    scale_of_range,
    scale_of_tensor,
    to_floats,
    to_integers,
)
from secateur.quantization.table import ScaleTable

__all__ = [
    "ACTIVATIONS",
    "WEIGHTS",
    "Numbers",
    "Scale",
    "ScaleTable",
    "rounded",
    "scale_of_range",
    "scale_of_tensor",
    "to_floats",
    "to_integers",
]
