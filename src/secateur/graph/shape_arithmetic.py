"""Constants out of shape arithmetic: `Shape -> Gather -> Concat -> Reshape` of a known shape is a known number.

1. Shape of a value whose sides are all known is a constant.
2. A node of integer or slice arithmetic whose inputs are all small constants is a constant.

Exporters write such chains for pads, reshapes and channel shuffles; ONNX's own shape inference stops at some of them.
"""

import math
from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from secateur.errors import ModelError

# A shape, a pad or an axis list is never longer; a hostile file could ask for any number.
MAX_ELEMENTS = 1024
FOLDABLE = frozenset(
    [
        "Add",
        "Cast",
        "Concat",
        "ConstantOfShape",
        "Div",
        "Gather",
        "Identity",
        "Mul",
        "Reshape",
        "Slice",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
    ]
)

Value = NDArray[np.generic]


def fold_shapes(model: onnx.ModelProto, sides: Mapping[str, tuple[int, ...]]) -> bool:
    """Replace every node that the two rules cover by an initializer, in place; whether there was one.

    sides     name of a value -> its shape, where all sides are known
    raises    ModelError  arithmetic that cannot be carried out
    """
    known = _small_constants(model)
    left: list[onnx.NodeProto] = []
    for node in model.graph.node:
        value = _value_of(model, node, known, sides)
        if value is None:
            left.append(node)
            continue
        known[node.output[0]] = value
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), node.output[0]))
    folded = len(left) < len(model.graph.node)
    if folded:
        del model.graph.node[:]
        model.graph.node.extend(left)
    return folded


def _small_constants(model: onnx.ModelProto) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= MAX_ELEMENTS and (tensor.raw_data or tensor.int64_data or tensor.int32_data):
            found[tensor.name] = numpy_helper.to_array(tensor)
    for node in model.graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            if math.prod(tensor.dims) <= MAX_ELEMENTS:
                found[node.output[0]] = numpy_helper.to_array(tensor)
    return found


def _value_of(
    model: onnx.ModelProto, node: onnx.NodeProto, known: Mapping[str, Value], sides: Mapping[str, tuple[int, ...]]
) -> Value | None:
    if node.op_type == "Shape" and node.input and node.input[0] in sides:
        shape = sides[node.input[0]]
        bounds = {attribute.name: attribute.i for attribute in node.attribute}
        return np.array(shape[bounds.get("start", 0) : bounds.get("end", len(shape))], np.int64)
    if node.op_type not in FOLDABLE or len(node.output) != 1:
        return None
    if not all(name in known for name in node.input if name):
        return None
    inputs = {name: known[name] for name in node.input if name}
    if node.op_type == "ConstantOfShape" and math.prod(int(side) for side in known[node.input[0]]) > MAX_ELEMENTS:
        return None
    graph = helper.make_graph(
        [node],
        "one",
        [_described(name, value) for name, value in inputs.items()],
        [helper.make_empty_tensor_value_info(node.output[0])],
    )
    try:
        one = helper.make_model(graph, opset_imports=list(model.opset_import))
        with np.errstate(all="ignore"):
            run = cast(Callable[..., list[Value]], ReferenceEvaluator(one).run)  # pyright: ignore[reportUnknownMemberType]
            results = run(None, inputs)
            value = np.asarray(results[0])
    except (ValueError, TypeError, IndexError, RuntimeError, KeyError, OverflowError, ZeroDivisionError) as error:
        raise ModelError(f"node '{node.name}' ({node.op_type}) cannot be carried out: {error}.") from error
    return value if value.size <= MAX_ELEMENTS else None


def _described(name: str, value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
