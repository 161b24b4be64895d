"""Tests are named after the rules of passes/recognise_normalization.py."""

import numpy as np
import pytest

from graph_tools import assert_same, graph_of, node, normal, numbers, only, ops
from secateur.graph.passes.recognise_normalization import recognise_normalization
from secateur.graph.passes.remove_dead import remove_dead

X = {"x": (2, 3, 4, 5)}
NUMBERS = {"e": np.float32(1e-3), "two": np.float32(2), "s": numbers(5), "b": numbers(5, seed=1)}


def norm(square: str = "Pow d two", root: str = "Div d r", axes=(-1,), second=None, more=(), y: str = "n", **constants):
    op, inputs = square.split(" ", 1)
    nodes = [
        node("ReduceMean", "x", "m", axes=axes),
        node("Sub", "x m", "d"),
        node(op, inputs, "q"),
        node("ReduceMean", "q", "v", axes=second or axes),
        node("Add", "v e", "t"),
        node("Sqrt", "t", "r"),
    ]
    if root.startswith("Mul"):
        nodes.append(node("Reciprocal", "r", "i"))
    op, inputs = root.split(" ", 1)
    nodes += [node(op, inputs, "n"), *more]
    return normal(graph_of(nodes, X, {**NUMBERS, **constants}, y))


def recognised(graph):
    after = remove_dead(recognise_normalization(graph))
    assert_same(graph, after)
    return after


@pytest.mark.parametrize("axes", [(-1,), (2, 3), (-1, -2, -3)])
@pytest.mark.parametrize("square", ["Pow d two", "Mul d d"])
@pytest.mark.parametrize("root", ["Div d r", "Mul d i", "Mul i d"])
def test_rules_1_and_2(square: str, root: str, axes):
    after = recognised(norm(square, root, axes))
    assert ops(after) == ["LayerNormalization"]
    found = only(after, "LayerNormalization").attributes
    assert found == {"axis": 4 - len(axes), "epsilon": pytest.approx(1e-3)}


def test_rule_1_other_axes_stay():
    for graph in (norm(axes=(1,)), norm(axes=(1, 3)), norm(second=(2, 3))):
        assert recognise_normalization(graph) is graph


def test_rule_2_other_powers_stay():
    graph = norm(three=np.float32(3), square="Pow d three")
    assert recognise_normalization(graph) is graph
    graph = norm(square="Mul d x")
    assert recognise_normalization(graph) is graph


def test_rule_3_scale_and_bias():
    after = recognised(norm(more=[node("Mul", "n s", "p"), node("Add", "b p", "y")], y="y"))
    assert ops(after) == ["LayerNormalization"]
    found = only(after, "LayerNormalization")
    np.testing.assert_array_equal(after.constants[found.inputs[1]], NUMBERS["s"])
    np.testing.assert_array_equal(after.constants[found.inputs[2]], NUMBERS["b"])


def test_rule_3_the_native_operator_takes_more_too():
    nodes = [node("LayerNormalization", "x s b", "n"), node("Add", "n s", "y")]
    after = recognised(normal(graph_of(nodes, X, NUMBERS)))
    assert ops(after) == ["LayerNormalization"]
    nodes = [node("LayerNormalization", "x s b", "n"), node("Mul", "n s", "y")]
    graph = normal(graph_of(nodes, X, NUMBERS))
    assert recognise_normalization(graph) is graph


def test_rule_3_wider_constants_and_other_readers_stay():
    wide = recognised(norm(more=[node("Mul", "n w", "y")], y="y", w=numbers(4, 5)))
    assert ops(wide) == ["LayerNormalization", "Mul"]
    read = recognised(norm(more=[node("Mul", "n s", "y")], y="y n"))
    assert ops(read) == ["LayerNormalization", "Mul"]
