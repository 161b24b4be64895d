"""Graphs that somebody has tampered with: a sentence, or a graph; never another error, never much memory."""

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from graph_tools import model_of, node, numbers
from secateur.errors import ModelError
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify
from secateur.graph.to_onnx import to_onnx

NODES = [
    node("Conv", "x w b", "a", pads=[1, 1, 1, 1], strides=[1, 1], dilations=[1, 1], group=1, kernel_shape=[3, 3]),
    node("BatchNormalization", "a b b b v", "c", epsilon=1e-5),
    node("Clip", "c zero six", "d"),
    node("Pad", "d pads", "e", mode="constant"),
    node("MaxPool", "e", "f", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    node("Resize", "f - scales", "g", mode="nearest"),
    node("Slice", "g starts ends axes steps", "h"),
    node("Split", "h", "i j", axis=1),
    node("Concat", "i j", "k", axis=1),
    node("ConvTranspose", "k t", "l", strides=[2, 2], output_padding=[1, 1]),
    node("PRelu", "l slopes", "m"),
    node("AveragePool", "m", "n", kernel_shape=[2, 2], count_include_pad=1),
    node("Reshape", "n shape", "o"),
    node("Transpose", "o", "p", perm=[0, 2, 1]),
    node("LayerNormalization", "p s4", "q", axis=-1),
    node("Softmax", "q", "r", axis=-1),
    node("ReduceMean", "r", "u", axes=[1], keepdims=0),
    node("Gemm", "u m4 b", "z", alpha=0.5, transB=1),
    node("Unsqueeze", "z axes", "z1"),
    node("Expand", "z1 wide", "z2"),
    node("Max", "z2 z2 six", "y"),
]
CONSTANTS = {
    "w": numbers(4, 3, 3, 3), "b": numbers(4), "v": numbers(4, low=0.1), "zero": np.float32(0), "six": np.float32(6),
    "pads": np.array([0, 0, 0, 0, 0, 0, 1, 1]), "scales": np.array([1, 1, 2, 2], np.float32),
    "starts": np.array([0]), "ends": np.array([8]), "axes": np.array([2]), "steps": np.array([1]),
    "t": numbers(4, 4, 2, 2), "slopes": numbers(4, 1, 1), "shape": np.array([0, 4, -1]), "s4": numbers(4),
    "m4": numbers(4, 4), "wide": np.array([1, 1, 5]),
}  # fmt: skip
INTEGERS = st.sampled_from([-(1 << 62), -2, -1, 0, 1, 2, 3, 7, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1])
VALUES = st.one_of(
    INTEGERS,
    st.lists(INTEGERS, max_size=4),
    st.sampled_from([float("nan"), float("inf"), -1.0, "SAME_UPPER", "reflect", "", [1.5, 2.0], ["a"]]),
)


def sample() -> onnx.ModelProto:
    return model_of(NODES, {"x": ("n", 3, 8, 8)}, CONSTANTS)


def test_the_graph_itself_is_fine():
    graph = simplify(load_graph(sample()))
    assert graph.shape("y") == (1, 4, 5) and len(graph.nodes) < len(NODES)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_tampered_graphs(data: st.DataObject):
    model = sample()
    names = [*CONSTANTS, *(output for each in NODES for output in each.output), "x", "", "nowhere"]
    for _ in range(data.draw(st.integers(1, 3))):
        each = data.draw(st.sampled_from(list(model.graph.node)))
        kind = data.draw(st.sampled_from(["attribute", "input", "constant", "drop", "type"]))
        if kind == "attribute" and each.attribute:
            attribute = data.draw(st.sampled_from(list(each.attribute)))
            value = data.draw(VALUES)
            if value != []:
                attribute.CopyFrom(helper.make_attribute(attribute.name, value))
        elif kind == "input":
            index = data.draw(st.integers(0, len(each.input) - 1))
            each.input[index] = data.draw(st.sampled_from(names))
        elif kind == "drop" and len(each.input) > 1:
            del each.input[-1]
        else:
            tensor = data.draw(st.sampled_from(list(model.graph.initializer)))
            if kind == "type":
                tensor.data_type = data.draw(st.sampled_from([1, 6, 7, 11]))
            elif tensor.data_type == onnx.TensorProto.INT64:
                array = np.array([data.draw(INTEGERS) for _ in range(data.draw(st.integers(0, 5)))], np.int64)
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
            else:
                tensor.CopyFrom(onnx.numpy_helper.from_array(numbers(data.draw(st.integers(1, 5)), 3), tensor.name))
    try:
        to_onnx(simplify(load_graph(model)))
    except ModelError as error:
        assert "\n" not in str(error)
