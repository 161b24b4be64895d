"""Parts of graphs as models that ONNX Runtime runs."""

import numpy as np
import pytest
from onnx import TensorProto, checker, helper

from graph_tools import feeds_of, graph_of, node, normal, numbers, run_model
from secateur.errors import ModelError
from secateur.graph.ir import Activation, Node
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify
from secateur.graph.to_onnx import to_onnx

NODES = [
    node("Conv", "x w", "a"),
    node("Relu", "a", "b"),
    node("Exp", "b", "c"),
    node("Add", "b c", "d"),
    node("Neg", "d", "y"),
]


def sample():
    return graph_of(NODES, {"x": (1, 3, 5, 5)}, {"w": numbers(2, 3, 3, 3)})


def test_the_whole_graph():
    model = to_onnx(sample())
    checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["x"]
    assert [tensor.name for tensor in model.graph.initializer] == ["w"]


def test_some_nodes_and_what_they_exchange():
    graph = sample()
    model = to_onnx(graph, graph.nodes[1:3])
    assert [value.name for value in model.graph.input] == ["a"]
    assert [value.name for value in model.graph.output] == ["b", "c"]
    checker.check_model(model, full_check=True)
    a = numbers(1, 2, 3, 3)
    b, c = run_model(model, {"a": a})
    np.testing.assert_array_equal(b, np.maximum(a, 0))
    np.testing.assert_allclose(c, np.exp(b), rtol=1e-6)
    assert [value.name for value in to_onnx(graph, graph.nodes[1:3], ["c"]).graph.output] == ["c"]


def test_parts_compose_to_the_whole():
    graph = sample()
    feeds = feeds_of(graph)
    (wanted,) = run_model(to_onnx(graph), feeds)
    values = dict(feeds)
    for each in graph.nodes:
        part = to_onnx(graph, [each])
        results = run_model(part, {value.name: values[value.name] for value in part.graph.input})
        values.update(zip([value.name for value in part.graph.output], results, strict=True))
    np.testing.assert_array_equal(values["y"], wanted)


def test_fused_nodes_are_expanded():
    graph = simplify(sample())
    fused = graph.nodes[0]
    assert fused.domain == "secateur" and fused.absorbed
    model = to_onnx(graph, [fused])
    assert [each.op_type for each in model.graph.node] == ["Conv", "Relu"]
    checker.check_model(model, full_check=True)


def test_values_without_complete_types():
    graph = graph_of([node("NonZero", "x", "i"), node("Cast", "i", "y", to=1)], {"x": (2, 3)})
    first, second = to_onnx(graph, graph.nodes[:1]), to_onnx(graph, graph.nodes[1:])
    x = np.array([[0, 1, 0], [1, 0, 1]], np.float32)
    (i,) = run_model(first, {"x": x})
    assert run_model(second, {"i": i})[0].tolist() == [[0, 1, 1], [1, 0, 2]]


def test_a_boundary_of_unknown_type_is_a_sentence():
    graph = graph_of([node("Relu", "x", "h"), node("Neg", "h", "y")], {"x": (2,)})
    graph = graph.with_nodes(graph.nodes, types={"x": graph.type("x"), "y": graph.type("y")})
    with pytest.raises(ModelError, match="type of the value 'h' is not known"):
        to_onnx(graph, graph.nodes[:1])


def test_attributes_survive():
    constant = helper.make_tensor("v", TensorProto.FLOAT, (1,), [2.5])
    nodes = [
        node("ConstantOfShape", "s", "c", value=constant),
        node("Reshape", "x e", "r"),
        node("LeakyRelu", "r", "l", alpha=0.25),
        node("Mul", "l c", "y"),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", 1, (1,)), helper.make_tensor_value_info("s", 7, (1,))],
            [helper.make_empty_tensor_value_info("y")],
            [helper.make_tensor("e", TensorProto.INT64, (0,), [])],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    graph = load_graph(model)
    feeds = {"x": np.array([-4], np.float32), "s": np.array([3])}
    np.testing.assert_array_equal(run_model(to_onnx(graph), feeds)[0], np.full(3, -2.5, np.float32))


def test_empty_lists_keep_their_type():
    graph = graph_of(
        [node("Relu", "x", "h"), node("Conv", "h w", "y")], {"x": (1, 3, 5, 5)}, {"w": numbers(2, 3, 1, 1)}
    )
    nodes = [graph.nodes[0], Node("c", "Conv", ("h", "w"), ("y",), {"group": 1, "auto_pad": "NOTSET", "pads": ()})]
    model = to_onnx(graph.with_nodes(nodes))
    assert next(a.type for a in model.graph.node[1].attribute if a.name == "pads") == 7


def test_infinite_bounds():
    graph = normal(graph_of([node("Clip", "x", "y")], {"x": (3,)}))
    assert graph.nodes[0].attributes["activation"] == Activation("clip", -np.inf, np.inf)
    x = np.array([-3, 0, 3], np.float32)
    np.testing.assert_array_equal(run_model(to_onnx(graph), {"x": x})[0], x)
