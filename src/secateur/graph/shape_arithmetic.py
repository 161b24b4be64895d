"""Constants out of shape arithmetic: `Shape -> Gather -> Concat -> Reshape` of a known shape is a known number.

1. Shape and Size of a value whose sides are all known are constants.
2. A node of integer or slice arithmetic whose inputs are all small constants is a constant.

Exporters write such chains for pads, reshapes and channel shuffles; ONNX's own shape inference stops at some of them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from secateur.errors import ModelError
from secateur.graph.read import one_line

# A shape, a pad or an axis list is never longer; a hostile file could ask for any number.
MAX_ELEMENTS = 1024
FOLDABLE = frozenset([
    "Abs", "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Floor", "Gather",
    "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Range", "ReduceMax", "ReduceMin",
    "ReduceProd", "ReduceSum", "Reshape", "Slice", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
])  # fmt: skip

Value = NDArray[np.generic]


def constant_of(tensor: onnx.TensorProto) -> Value | None:
    """The numbers of a small tensor, None for a large one and for one without its data."""
    if math.prod(tensor.dims) > MAX_ELEMENTS or tensor.data_type == onnx.TensorProto.STRING:
        return None
    has_data = math.prod(tensor.dims) == 0 or any(
        (tensor.raw_data, tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data)
    )
    return numpy_helper.to_array(tensor) if has_data else None


def value_of(
    node: onnx.NodeProto,
    known: Mapping[str, Value],
    sides: tuple[int, ...] | None,
    opsets: Sequence[onnx.OperatorSetIdProto],
) -> Value | None:
    """What a node computes by the two rules, None where they do not cover it.

    node      its outputs are known to be small
    known     small constants by name
    sides     of the node's first input, where all are known
    raises    ModelError  arithmetic that cannot be carried out
    """
    if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    if node.op_type == "Constant":
        tensor = next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
        return constant_of(tensor) if tensor is not None else None
    if node.op_type == "Shape" and sides is not None:
        bounds = {attribute.name: attribute.i for attribute in node.attribute}
        return np.array(sides[bounds.get("start", 0) : bounds.get("end", len(sides))], np.int64)
    if node.op_type == "Size" and sides is not None:
        return np.array(math.prod(sides), np.int64)
    if node.op_type not in FOLDABLE or not all(name in known for name in node.input if name):
        return None
    inputs = {name: known[name] for name in node.input if name}
    graph = helper.make_graph(
        [node],
        "one",
        [_described(name, value) for name, value in inputs.items()],
        [helper.make_empty_tensor_value_info(node.output[0])],
    )
    try:
        one = helper.make_model(graph, opset_imports=list(opsets))
        with np.errstate(all="ignore"):
            run = cast(Callable[..., list[Value]], ReferenceEvaluator(one).run)  # pyright: ignore[reportUnknownMemberType]
            value = np.asarray(run(None, inputs)[0])
    except (ValueError, TypeError, IndexError, RuntimeError, KeyError, OverflowError, ZeroDivisionError) as error:
        text = one_line(str(error)).rstrip(".")
        raise ModelError(f"node '{node.name}' ({node.op_type}) cannot be carried out: {text}.") from error
    return value if value.size <= MAX_ELEMENTS else None


def _described(name: str, value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
