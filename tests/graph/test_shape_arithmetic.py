"""Shapes that exporters compute inside the graph are known numbers; hostile arithmetic stays small."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from secateur.errors import ModelError
from secateur.graph import census_of_onnx


def flatten_by_arithmetic(divisor: int = 1) -> onnx.ModelProto:
    """Conv, then Reshape to (Shape[0], Shape[1] * Shape[2] * Shape[3] / divisor), then a linear layer."""
    constants = {
        "first": np.array([0]),
        "rest": np.array([1]),
        "two": np.array([2]),
        "three": np.array([3]),
        "divisor": np.array([divisor]),
    }
    nodes = [
        helper.make_node("Conv", ["input", "conv"], ["maps"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Shape", ["maps"], ["shape"]),
        *[helper.make_node("Gather", ["shape", key], [f"{key}_side"]) for key in ("first", "rest", "two", "three")],
        helper.make_node("Mul", ["rest_side", "two_side"], ["product"]),
        helper.make_node("Mul", ["product", "three_side"], ["whole"]),
        helper.make_node("Div", ["whole", "divisor"], ["flat"]),
        helper.make_node("Concat", ["first_side", "flat"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["maps", "wanted"], ["rows"]),
        helper.make_node("Gemm", ["rows", "fc"], ["logits"], name="fc"),
    ]
    weights = {
        "conv": np.ones((4, 3, 3, 3), np.float32),
        "fc": np.ones((4 * 8 * 8, 10), np.float32),
        **{name: value.astype(np.int64) for name, value in constants.items()},
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_reshape_to_a_computed_shape_is_counted():
    counts = census_of_onnx(flatten_by_arithmetic())
    assert counts.weights == 4 * 27 + 2560
    assert counts.macs == 4 * 27 * 64 + 2560


def test_division_by_zero_is_a_sentence():
    with pytest.raises(ModelError):
        census_of_onnx(flatten_by_arithmetic(divisor=0))


def test_a_request_for_an_enormous_constant_is_not_carried_out():
    nodes = [
        helper.make_node("ConstantOfShape", ["sides"], ["huge"]),
        helper.make_node("Conv", ["input", "conv"], ["logits"], name="conv"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.array([2**40, 2**20], np.int64), "sides"),
            numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "conv"),
        ],
    )
    counts = census_of_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    assert counts.macs == 12 * 64
