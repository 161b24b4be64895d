"""A model whose large tensors lie beside it, so that nobody copies them."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from secateur.graph.wire import LARGE

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class StoredModel:
    """A model that passed the checks of read.py.

    proto    the model; where `data` has the bytes of an initializer, its own are not to be used
    data     index of an initializer -> its bytes, for types that numpy has itself
    """

    proto: onnx.ModelProto
    data: Mapping[int, Bytes]

    def whole(self) -> onnx.ModelProto:
        """The model with all bytes in it."""
        for index, array in self.data.items():
            put_back(self.proto.graph.initializer[index], array)
        return self.proto


def large_data(model: onnx.ModelProto) -> dict[int, Bytes]:
    """The bytes of the large initializers of a model in memory, copied once."""
    return {
        index: np.frombuffer(tensor.raw_data, np.uint8)
        for index, tensor in enumerate(model.graph.initializer)
        if tensor.HasField("raw_data") and is_plain(tensor) and tensor.ByteSize() >= LARGE
    }


def put_back(tensor: onnx.TensorProto, array: Bytes) -> None:
    """Give a tensor its bytes."""
    tensor.raw_data = array.tobytes()


def array_of(tensor: onnx.TensorProto, data: Bytes) -> NDArray[Any]:
    """The elements of a plain tensor whose bytes are these: a view."""
    return data.view(helper.tensor_dtype_to_np_dtype(tensor.data_type)).reshape(tuple(tensor.dims))


def is_plain(tensor: onnx.TensorProto) -> bool:
    """Whether the raw data of a tensor are its elements as numpy keeps them."""
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError):
        return False
    numbers = dtype.kind in "biufc" and dtype.isbuiltin == 1
    return numbers and not tensor.HasField("segment") and sys.byteorder == "little"
