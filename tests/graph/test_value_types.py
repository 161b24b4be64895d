"""Types of values, node after node. Tests are named after the rules of graph/value_types.py."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graph_tools import graph_of, model_of, node, numbers, run_model
from secateur.errors import ModelError
from secateur.graph.ir import TensorType
from secateur.graph.load import load_graph
from secateur.graph.to_onnx import to_onnx


def test_rule_1_foreign_operators_keep_recorded_types():
    nodes = [helper.make_node("Gelu", ["x"], ["h"], domain="com.microsoft"), node("Relu", "h", "y")]
    model = model_of(nodes, {"x": (2, 3)})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    unknown = load_graph(model)
    assert "h" not in unknown.types and "y" not in unknown.types
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, (2, 3)))
    graph = load_graph(model)
    assert graph.type("y") == TensorType((2, 3), "float32") and graph.domains == {"com.microsoft": 1}
    x = numbers(2, 3)
    np.testing.assert_allclose(run_model(to_onnx(graph), {"x": x}), run_model(model, {"x": x}))


def test_rule_2_arithmetic_with_shapes():
    nodes = [
        node("Shape", "x", "s"),
        node("Slice", "s one three", "middle"),
        node("ReduceProd", "middle", "product", keepdims=1),
        node("Size", "x", "size"),
        node("Div", "size product", "rest"),
        node("Concat", "product rest", "shape", axis=0),
        node("Reshape", "x shape", "y"),
    ]
    graph = graph_of(nodes, {"x": ("n", 3, 4, 5)}, {"one": np.array([1]), "three": np.array([3])})
    assert graph.shape("y") == (12, 5) and [each.op for each in graph.nodes] == ["Reshape"]


def test_rule_2_masks_of_shapes():
    """torch writes expand with -1 like this."""
    nodes = [
        node("ConstantOfShape", "rank", "zeros", value=numpy_helper.from_array(np.array([0]))),
        node("Equal", "wanted zeros", "open"),
        node("Where", "open ones wanted", "shape"),
        node("Expand", "x shape", "y"),
    ]
    constants = {"rank": np.array([3]), "wanted": np.array([2, 0, 4]), "ones": np.ones(3, np.int64)}
    graph = graph_of(nodes, {"x": (1, 3, 1)}, constants)
    assert graph.shape("y") == (2, 3, 4) and [each.op for each in graph.nodes] == ["Expand"]


def test_rule_3_negative_sides_are_sentences():
    for nodes, constants in (
        ([node("Resize", "x - s", "y")], {"s": np.array([1, -2], np.float32)}),
        ([node("Pad", "x p", "y")], {"p": np.array([0, -9, 0, 0])}),
    ):
        with pytest.raises(ModelError, match=r"negative side|does not fit"):
            load_graph(model_of(nodes, {"x": (2, 3)}, constants))


@pytest.mark.parametrize("sides", [(0, 3), (3, 0)])
def test_rule_4_slices_of_nothing_have_no_shape(sides):
    constants = {"s": np.array([-1]), "e": np.array([-9]), "a": np.array([0]), "t": np.array([-1])}
    nodes = [node("Slice", "x s e a t", "h"), node("Relu", "h", "y")]
    model = model_of(nodes, {"x": sides}, constants)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    graph = load_graph(model)
    assert "h" not in graph.types
    x = np.zeros(sides, np.float32)
    assert run_model(to_onnx(graph), {"x": x})[0].shape == sides


def test_rule_4_element_types_of_unknown_shapes_are_kept():
    graph = graph_of([node("NonZero", "x", "i"), node("Cast", "i", "y", to=TensorProto.FLOAT)], {"x": (2, 3)})
    assert graph.loose["y"].tensor_type.elem_type == TensorProto.FLOAT


def test_sequences_have_no_type():
    graph = graph_of([node("SplitToSequence", "x", "s"), node("ConcatFromSequence", "s", "y", axis=0)], {"x": (2, 3)})
    assert "s" not in graph.types and graph.loose["s"].HasField("sequence_type")
    assert isinstance(to_onnx(graph, graph.nodes[:1]), onnx.ModelProto)
