"""Tests are named after the rules of passes/fold_scale.py."""

import numpy as np
import pytest

from graph_tools import assert_same, graph_of, node, normal, numbers, only, ops
from secateur.graph.passes.fold_scale import fold_scale
from secateur.graph.passes.fuse_activation import fuse_activation
from secateur.graph.passes.fuse_residual import fuse_residual


def conv_then(*nodes, constant=None, outputs: str = "y", **more):
    constants = {"w": numbers(6, 4, 3, 3), "b": numbers(6), **more}
    if constant is not None:
        constants["c"] = constant
    return normal(graph_of([node("Conv", "x w b", "h"), *nodes], {"x": (2, 4, 7, 7)}, constants, outputs))


@pytest.mark.parametrize("arguments", ["h c", "c h"])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(1, 6, 1, 1), (6, 1, 1), (1,), ()])
def test_rule_2_one_number_per_row(op: str, arguments: str, shape):
    graph = conv_then(node(op, arguments, "y"), constant=numbers(*shape, low=0.5))
    after = fold_scale(graph)
    assert ops(after) == (["Conv", "Div"] if (op, arguments) == ("Div", "c h") else ["Conv"])
    assert_same(graph, after, 1e-4)


@pytest.mark.parametrize("shape", [(5,), (5, 1), (2, 1, 1, 1), (6, 5, 5)])
def test_rule_2_constants_that_vary_elsewhere_stay(shape):
    graph = conv_then(node("Mul", "h c", "y"), constant=numbers(*shape))
    assert fold_scale(graph) is graph


def test_rule_2_shapes_that_grow_stay():
    graph = conv_then(node("Mul", "h c", "y"), constant=numbers(3, 1, 1, 1, 1))
    assert fold_scale(graph) is graph


@pytest.mark.parametrize("op", ["Gemm", "MatMul"])
def test_rule_2_rows_of_linear_lie_in_the_last_side(op: str):
    nodes = [node(op, "x w", "h"), node("Add", "h c", "a"), node("Mul", "a d", "y")]
    constants = {"w": numbers(5, 4), "c": numbers(4), "d": numbers(1, 4)}
    graph = normal(graph_of(nodes, {"x": (3, 5)}, constants))
    after = fold_scale(graph)
    assert ops(after) == ["Linear"]
    assert_same(graph, after)


def test_rule_1_a_second_reader_or_an_output_blocks():
    graph = conv_then(node("Mul", "h c", "y"), node("Relu", "h", "z"), constant=numbers(1), outputs="y z")
    assert fold_scale(graph) is graph
    graph = conv_then(node("Mul", "h c", "y"), constant=numbers(1), outputs="y h")
    assert fold_scale(graph) is graph


def test_rule_3_an_activation_blocks():
    graph = fuse_activation(conv_then(node("Relu", "h", "r"), node("Mul", "r c", "y"), constant=numbers(1)))
    assert ops(graph) == ["Conv", "Mul"]
    assert fold_scale(graph) is graph


def test_rule_3_behind_a_residual_only_sums_are_folded():
    for op, left in (("Add", ["Conv"]), ("Sub", ["Conv"]), ("Mul", ["Conv", "Mul"])):
        nodes = [node("Conv", "x w b", "h"), node("Add", "h r", "s"), node(op, "s c", "y")]
        constants = {"w": numbers(6, 4, 3, 3), "b": numbers(6), "c": numbers(6, 1, 1)}
        graph = fuse_residual(normal(graph_of(nodes, {"x": (1, 4, 7, 7), "r": (1, 6, 5, 5)}, constants)))
        after = fold_scale(graph)
        assert ops(after) == left
        assert_same(graph, after)


def test_rule_4_zeros_stay_zero_and_nothing_becomes_nan():
    weight = numbers(6, 4, 3, 3)
    weight[::2] = 0
    graph = conv_then(node("Mul", "h c", "y"), constant=numbers(6, 1, 1), w=weight)
    after = fold_scale(graph)
    np.testing.assert_array_equal(after.constants[only(after, "Conv").inputs[1]] == 0, weight == 0)
    for number in (np.inf, np.nan):
        graph = conv_then(node("Mul", "h c", "y"), constant=np.float32(number), w=weight)
        assert fold_scale(graph) is graph
    graph = conv_then(node("Div", "h c", "y"), constant=np.float32(0))
    assert fold_scale(graph) is graph


def test_rule_5_the_activation_moves():
    graph = fuse_activation(conv_then(node("Add", "h c", "a"), node("Relu", "a", "y"), constant=numbers(6, 1, 1)))
    assert ops(graph) == ["Conv", "Add"]
    after = fold_scale(graph)
    assert str(only(after, "Conv").attributes["activation"]) == "relu"
    assert_same(graph, after)
