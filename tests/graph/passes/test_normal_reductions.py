"""Tests are named after the rules of passes/normal_reductions.py."""

import numpy as np
import pytest

from graph_tools import assert_same, graph_of, node, numbers, only, ops
from secateur.graph.passes.normal_reductions import normal_reductions

X = {"x": (2, 3, 4, 5)}


@pytest.mark.parametrize("opset", [11, 13, 18, 20])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize(("op", "kind"), [("ReduceMean", "average"), ("ReduceMax", "max")])
def test_rule_2_height_and_width_are_a_global_pool(op: str, kind: str, keep: int, opset: int):
    by_operand = opset >= 18
    reduce = node(op, "x a", "y", keepdims=keep) if by_operand else node(op, "x", "y", axes=[3, -2], keepdims=keep)
    graph = graph_of([reduce], X, {"a": np.array([-1, 2])} if by_operand else {}, opset=opset)
    after = normal_reductions(graph)
    assert ops(after) == (["GlobalPool"] if keep else ["GlobalPool", "Reshape"])
    assert only(after, "GlobalPool").attributes["kind"] == kind
    assert_same(graph, after)


@pytest.mark.parametrize(("axes", "found"), [([-1], (3,)), ([1, 0], (0, 1)), ([], (0, 1, 2, 3))])
def test_rule_1_means_over_other_axes(axes, found):
    for opset in (13, 18):
        options = {"axes": axes} if axes and opset < 18 else {}
        operand = "x a" if opset >= 18 and axes else "x"
        constants = {"a": np.array(axes, np.int64)} if opset >= 18 and axes else {}
        graph = graph_of([node("ReduceMean", operand, "y", **options)], X, constants, opset=opset)
        after = normal_reductions(graph)
        assert only(after, "ReduceMean").attributes == {"axes": found, "keepdims": 1}
        assert_same(graph, after)


def test_rule_2_other_maxima_stay():
    graph = graph_of([node("ReduceMax", "x", "y", axes=[1])], X)
    assert normal_reductions(graph) is graph


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_rule_3_softmax(op: str):
    for axis in (0, 1, -1):
        graph = graph_of([node(op, "x", "y", axis=axis)], X)
        after = normal_reductions(graph)
        assert only(after, op).attributes["axis"] == axis % 4
        assert_same(graph, after)
        older = after.with_nodes(after.nodes, opset=11)
        assert_same(graph, older)


def test_rule_3_old_softmax_over_one_axis():
    for shape, axis, found in (((2, 3, 1, 1), 1, 1), ((2, 6), 1, 1), ((2, 3, 4), -1, 2)):
        graph = graph_of([node("Softmax", "x", "y", axis=axis)], {"x": shape}, opset=11)
        after = normal_reductions(graph)
        assert only(after, "Softmax").attributes["axis"] == found
        assert_same(graph, after)
    graph = graph_of([node("Softmax", "x", "y")], X, opset=11)
    assert normal_reductions(graph) is graph


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("axis", "sides"), [(-1, (5,)), (2, (4, 5)), (1, (3, 4, 5)), (2, (5,))])
def test_rule_4_layer_normalization(axis: int, sides, bias: bool):
    norm = node("LayerNormalization", "x s b" if bias else "x s", "y", axis=axis, epsilon=1e-3)
    graph = graph_of([norm], X, {"s": numbers(*sides), "b": numbers(*sides, seed=1)})
    after = normal_reductions(graph)
    found = only(after, "LayerNormalization")
    assert found.attributes == {"axis": axis % 4, "epsilon": pytest.approx(1e-3)}
    assert after.shape(found.inputs[1]) == (3, 4, 5)[axis % 4 - 1 :]
    assert_same(graph, after)
    assert_same(graph, after.with_nodes(after.nodes, opset=13))


def test_rule_4_read_statistics_stay():
    graph = graph_of([node("LayerNormalization", "x s", "y m")], X, {"s": numbers(5)}, outputs="y m")
    assert normal_reductions(graph) is graph
