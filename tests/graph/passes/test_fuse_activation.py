"""Tests are named after the rules of passes/fuse_activation.py."""

import pytest

from graph_tools import assert_same, graph_of, node, normal, numbers, only, ops
from secateur.graph.passes.fuse_activation import fuse_activation

X = {"x": (2, 4, 7, 7)}
W = {
    "w": numbers(6, 4, 3, 3),
    "t": numbers(4, 6, 3, 3),
    "m": numbers(7, 5),
    "s": numbers(6, 1, 1),
    "c": numbers(4, 1, 1),
}


@pytest.mark.parametrize(
    ("first", "op"),
    [("Conv x w", "Conv"), ("ConvTranspose x t", "ConvTranspose"), ("MatMul x m", "Linear"), ("Mul x c", "Mul")],
)
@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "HardSwish", "Tanh", "Softplus"])
def test_rule_1_one_node_is_left(first: str, op: str, activation: str):
    name, inputs = first.split(" ", 1)
    graph = normal(graph_of([node(name, inputs, "h"), node(activation, "h", "y", name="act")], X, W))
    after = fuse_activation(graph)
    assert ops(after) == [op]
    assert only(after, op).absorbed == ("act",)
    assert only(after, op).name == graph.nodes[0].name
    assert_same(graph, after)


def test_rule_1_a_second_reader_or_an_output_blocks():
    nodes = [node("Conv", "x w", "h"), node("Relu", "h", "y"), node("Neg", "h", "z")]
    graph = normal(graph_of(nodes, X, W, "y z"))
    assert fuse_activation(graph) is graph
    graph = normal(graph_of(nodes[:2], X, W, "y h"))
    assert fuse_activation(graph) is graph


def test_rule_2_the_second_activation_stays():
    graph = normal(graph_of([node("Conv", "x w", "h"), node("Relu", "h", "r"), node("Tanh", "r", "y")], X, W))
    after = fuse_activation(graph)
    assert ops(after) == ["Conv", "Activate"]
    assert_same(graph, after)


def test_rule_3_prelu_only_behind_conv():
    graph = normal(graph_of([node("Conv", "x w", "h"), node("PRelu", "h s", "y")], X, W))
    after = fuse_activation(graph)
    assert only(after, "Conv").input(3) == "" and after.shape(only(after, "Conv").input(4)) == (6,)
    assert_same(graph, after)
    graph = normal(graph_of([node("ConvTranspose", "x t", "h"), node("PRelu", "h s", "y")], X, W))
    assert fuse_activation(graph) is graph
