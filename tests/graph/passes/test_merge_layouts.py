"""Tests are named after the rules of passes/merge_layouts.py."""

import numpy as np

from graph_tools import assert_same, graph_of, node, normal, only, ops
from secateur.graph.passes.merge_layouts import merge_layouts
from secateur.graph.passes.remove_dead import remove_dead

X = {"x": (2, 3, 4, 5)}


def merged(*nodes, outputs: str = "y", x=X, **constants):
    graph = normal(graph_of(nodes, x, {name: np.array(value) for name, value in constants.items()}, outputs))
    after = remove_dead(merge_layouts(graph))
    assert_same(graph, after)
    return after


def test_rule_1_reshapes_and_transposes():
    after = merged(node("Reshape", "x s", "a"), node("Flatten", "a", "y"), s=[6, 2, 10])
    assert ops(after) == ["Reshape"] and after.shape("y") == (6, 20)
    after = merged(node("Transpose", "x", "a", perm=[0, 2, 3, 1]), node("Transpose", "a", "y", perm=[0, 2, 1, 3]))
    assert only(after, "Transpose").attributes["perm"] == (0, 3, 2, 1)


def test_rule_2_a_transpose_of_sides_of_one():
    after = merged(node("Transpose", "x", "y", perm=[0, 2, 3, 1]), x={"x": (2, 1, 4, 5)})
    assert ops(after) == ["Reshape"]
    after = merged(node("Transpose", "x", "y", perm=[1, 0]), x={"x": (2, 3)})
    assert ops(after) == ["Transpose"]


def test_rule_3_slices_along_different_axes():
    parts = {"s": [1], "e": [9], "two": [2], "a": [2], "b": [3]}
    after = merged(node("Slice", "x s e a two", "h"), node("Slice", "h s e b two", "y"), **parts)
    assert ops(after) == ["Slice"] and only(after, "Slice").attributes["axes"] == (2, 3)
    after = merged(node("Slice", "x s e a two", "h"), node("Slice", "h s e a s", "y"), **parts)
    assert ops(after) == ["Slice", "Slice"]


def test_rule_4_other_readers_keep_the_first():
    after = merged(
        node("Flatten", "x", "a"), node("Reshape", "a s", "y"), node("Neg", "a", "z"), outputs="y z", s=[5, 24]
    )
    assert ops(after) == ["Reshape", "Reshape", "Activate"]
