"""Networks as files: ONNX that is checked, weights that are small, and the folder that holds both."""

from secateur.export.artifact import (
    DENSE_FOLDER,
    MODEL_FILE,
    PLAN_FILE,
    QUANTIZED_NAMES,
    QUANTIZED_WEIGHTS,
    RECIPE_FILE,
    SCALES_FILE,
    TFLITE_NAMES,
    WEIGHTS_FILE,
    Artifact,
    open_artifact,
)
from secateur.export.check import ExportCheck, check_onnx
from secateur.export.onnx_file import export_onnx, folded_copy
from secateur.export.packed_onnx import load_packed_onnx, save_packed_onnx
from secateur.export.weights_file import load_weights, save_weights
from secateur.sparsity.compact import Packed, pack_tensor, stored_bytes, unpack_tensor

__all__ = [
    "DENSE_FOLDER",
    "MODEL_FILE",
    "PLAN_FILE",
    "QUANTIZED_NAMES",
    "QUANTIZED_WEIGHTS",
    "RECIPE_FILE",
    "SCALES_FILE",
    "TFLITE_NAMES",
    "WEIGHTS_FILE",
    "Artifact",
    "ExportCheck",
    "Packed",
    "check_onnx",
    "export_onnx",
    "folded_copy",
    "load_packed_onnx",
    "load_weights",
    "open_artifact",
    "pack_tensor",
    "save_packed_onnx",
    "save_weights",
    "stored_bytes",
    "unpack_tensor",
]
