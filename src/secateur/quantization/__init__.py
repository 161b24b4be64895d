"""Numbers of few bits for weights and activations: calibrated, learned, written so that runtimes compute with them."""

from secateur.quantization.calibrate import calibrate, observe, table_of
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
from secateur.quantization.observer import Observer
from secateur.quantization.points import Group, Points, WeightPoint, points_of
from secateur.quantization.prepare import prepared
from secateur.quantization.qdq import write_qdq
from secateur.quantization.quantize import QuantizationOptions, Quantized, quantize_model
from secateur.quantization.seen import Seen, Statistics
from secateur.quantization.settings import Override, Settings
from secateur.quantization.table import ScaleTable
from secateur.quantization.verify import Verification, verify

__all__ = [
    "ACTIVATIONS",
    "WEIGHTS",
    "Group",
    "Numbers",
    "Observer",
    "Override",
    "Points",
    "QuantizationOptions",
    "Quantized",
    "Scale",
    "ScaleTable",
    "Seen",
    "Settings",
    "Statistics",
    "Verification",
    "WeightPoint",
    "calibrate",
    "observe",
    "points_of",
    "prepared",
    "quantize_model",
    "rounded",
    "scale_of_range",
    "scale_of_tensor",
    "table_of",
    "to_floats",
    "to_integers",
    "verify",
    "write_qdq",
]
