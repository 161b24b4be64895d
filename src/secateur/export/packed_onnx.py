"""An ONNX file in little space: its tensors in their smallest form, and the graph without them.

    weights.int8.safetensors
      conv.weight_quantized#mask, #values    tensors under their names, sparse ones compact (weights_file.py)
      onnx.graph                             the model without these tensors, compressed (zlib)

Zeros cost a file almost nothing then, and eight-bit values a quarter of what float32 ones do. What comes back is the
model that was packed, bit for bit.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto

from secateur.errors import ArtifactError, ModelError
from secateur.export.weights_file import load_weights, save_weights
from secateur.graph.read import check_model

GRAPH_KEY = "onnx.graph"
# Smaller tensors stay in the graph: an entry of their own would cost more than they do.
LEAST_BYTES = 256
MAX_GRAPH_BYTES = 2**28

_DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
}


def save_packed_onnx(path: Path | str, model: onnx.ModelProto) -> None:
    """Write `model`, which stays as it is. raises ArtifactError, DiskError."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    tensors: dict[str, torch.Tensor] = {}
    for tensor in bare.graph.initializer:
        if tensor.data_type in _DTYPES and len(tensor.raw_data) >= LEAST_BYTES and tensor.name:
            flat = torch.frombuffer(bytearray(tensor.raw_data), dtype=_DTYPES[tensor.data_type])
            tensors[tensor.name] = flat.reshape(tuple(tensor.dims))
            tensor.raw_data = b""
    text = zlib.compress(bare.SerializeToString(), 9)
    if GRAPH_KEY in tensors:
        raise ArtifactError(
            f"{path}: a tensor of the model is called '{GRAPH_KEY}', which is the graph's own name here."
        )
    tensors[GRAPH_KEY] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    save_weights(path, tensors, {"producer": "secateur", "contents": "onnx"})


def load_packed_onnx(path: Path | str) -> onnx.ModelProto:
    """The model again. raises ArtifactError when the file is damaged, or was not written by `save_packed_onnx`."""
    tensors, _ = load_weights(path)
    if GRAPH_KEY not in tensors:
        raise ArtifactError(f"{path}: holds weights, but no graph that they belong to.")
    model = _graph(path, tensors.pop(GRAPH_KEY))
    for tensor in model.graph.initializer:
        if tensor.name in tensors:
            found = tensors.pop(tensor.name)
            if found.dtype != _DTYPES.get(tensor.data_type) or tuple(found.shape) != tuple(tensor.dims):
                raise ArtifactError(f"{path}: tensor '{tensor.name}' is not of the type and shape that the graph says.")
            tensor.raw_data = _bytes(found)
    if tensors:
        raise ArtifactError(f"{path}: tensor '{next(iter(tensors))}' belongs to nothing in the graph.")
    try:
        check_model(model)
    except ModelError as error:
        raise ArtifactError(f"{path}: holds no valid model: {error}") from error
    return model


def _graph(path: Path | str, stored: torch.Tensor) -> onnx.ModelProto:
    try:
        reader: Any = zlib.decompressobj()
        text = reader.decompress(_bytes(stored), MAX_GRAPH_BYTES)
        if not reader.eof:
            raise ArtifactError(
                f"{path}: its graph would unfold to more than {MAX_GRAPH_BYTES:,} bytes, or is cut off."
            )
        return onnx.ModelProto.FromString(text)
    except (zlib.error, DecodeError) as error:
        raise ArtifactError(f"{path}: its graph is damaged: {str(error).splitlines()[0]}.") from error


def _bytes(tensor: torch.Tensor) -> bytes:
    # numpy has no bfloat16 of its own; bytes it has.
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().astype(np.uint8).tobytes()
