"""Tests are named after the rules of passes/fuse_residual.py."""

import pytest

from graph_tools import assert_same, graph_of, node, normal, numbers, only, ops
from secateur.graph.passes.fuse_activation import fuse_activation
from secateur.graph.passes.fuse_residual import fuse_residual

X = {"x": (2, 4, 5, 5)}
W = {"w": numbers(4, 4, 3, 3), "v": numbers(4, 4, 1, 1), "b": numbers(1, 4, 1, 1), "m": numbers(5, 5)}
CONV = {"pads": [1, 1, 1, 1]}


@pytest.mark.parametrize("arguments", ["h x", "x h"])
def test_rule_1_the_other_operand_becomes_the_residual(arguments: str):
    graph = normal(graph_of([node("Conv", "x w", "h", **CONV), node("Add", arguments, "y")], X, W))
    after = fuse_residual(graph)
    assert ops(after) == ["Conv"] and only(after, "Conv").input(3) == "x"
    assert_same(graph, after)


def test_rule_1_linear():
    graph = normal(graph_of([node("MatMul", "x m", "h"), node("Add", "h x", "y")], X, W))
    after = fuse_residual(graph)
    assert only(after, "Linear").input(3) == "x"
    assert_same(graph, after)


def test_rule_1_broadcasting_and_doubling_stay():
    graph = normal(graph_of([node("Conv", "x w", "h", **CONV), node("Add", "h r", "y")], {**X, "r": (1, 4, 1, 1)}, W))
    assert fuse_residual(graph) is graph
    graph = normal(graph_of([node("Conv", "x w", "h", **CONV), node("Add", "h h", "y")], X, W))
    assert fuse_residual(graph) is graph


def test_rule_2_a_second_reader_or_an_output_blocks():
    nodes = [node("Conv", "x w", "h", **CONV), node("Add", "h x", "y"), node("Relu", "h", "z")]
    graph = normal(graph_of(nodes, X, W, "y z"))
    assert fuse_residual(graph) is graph
    graph = normal(graph_of(nodes[:2], X, W, "y h"))
    assert fuse_residual(graph) is graph


def test_rule_3_an_activation_or_residual_blocks():
    nodes = [node("Conv", "x w", "h", **CONV), node("Relu", "h", "r"), node("Add", "r x", "y")]
    graph = fuse_activation(normal(graph_of(nodes, X, W)))
    assert fuse_residual(graph) is graph
    nodes = [node("Conv", "x w", "h", **CONV), node("Add", "h x", "s"), node("Neg", "x", "n"), node("Add", "s n", "y")]
    graph = normal(graph_of(nodes, X, W))
    after = fuse_residual(graph)
    assert ops(after) == ["Conv", "Activate", "Add"]
    assert_same(graph, after)


def test_rule_4_the_later_convolution_takes_the_sum():
    nodes = [node("Conv", "x w", "a", name="first", **CONV), node("Conv", "x v", "b2", name="second"),
             node("Neg", "x", "n"), node("Add", "a b2", "s"), node("Mul", "s n", "y")]  # fmt: skip
    graph = normal(graph_of(nodes, X, W))
    after = fuse_residual(graph)
    assert [each.name for each in after.nodes if each.op == "Conv"] == ["first", "second"]
    assert after.nodes[-2].input(3) == "a" and ops(after) == ["Conv", "Activate", "Conv", "Mul"]
    assert_same(graph, after)


def test_rule_4_the_convolution_waits_for_the_other_operand():
    nodes = [node("Conv", "x w", "a", **CONV), node("Neg", "x", "n"), node("Add", "a n", "y")]
    graph = normal(graph_of(nodes, X, W))
    after = fuse_residual(graph)
    assert ops(after) == ["Activate", "Conv"]
    assert_same(graph, after)


def test_rule_5_the_activation_of_the_sum_is_kept():
    nodes = [node("Conv", "x w", "h", **CONV), node("Add", "h x", "s"), node("Relu", "s", "y")]
    graph = normal(graph_of(nodes, X, W))
    for after in (fuse_residual(fuse_activation(graph)), fuse_activation(fuse_residual(graph))):
        assert ops(after) == ["Conv"] and str(only(after, "Conv").attributes["activation"]) == "relu"
        assert_same(graph, after)
