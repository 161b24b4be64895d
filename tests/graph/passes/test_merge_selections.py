"""Tests are named after the rules of passes/merge_selections.py."""

import numpy as np

from graph_tools import assert_same, graph_of, node, normal, numbers, ops
from secateur.graph.ir import Graph
from secateur.graph.passes.drop_identity import drop_identity
from secateur.graph.passes.merge_selections import merge_selections
from secateur.graph.passes.recognise_shuffle import recognise_shuffle
from secateur.graph.passes.remove_dead import remove_dead

X = {"x": (2, 6, 4, 5)}


def shuffle(source: str, name: str, groups: int = 2):
    return [
        node("Reshape", f"{source} s{groups}", f"{name}1"),
        node("Transpose", f"{name}1", f"{name}2", perm=[0, 2, 1, 3, 4]),
        node("Reshape", f"{name}2 back", name),
    ]


def merged(*nodes, outputs: str = "y", **constants) -> Graph:
    constants |= {"s2": [2, 2, 3, 4, 5], "s3": [2, 3, 2, 4, 5], "back": [2, 6, 4, 5], "halves": [3, 3]}
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    graph = remove_dead(recognise_shuffle(normal(graph_of(nodes, X, arrays, outputs))))
    after = graph
    for _ in range(2):
        after = remove_dead(drop_identity(merge_selections(after)))
    assert_same(graph, after)
    assert merge_selections(after) is after
    return after


def conv(source: str, name: str, weight: str = "w", **attributes):
    return node("Conv", f"{source} {weight}", name, **attributes)


W3, W6 = numbers(4, 3, 1, 1), numbers(4, 6, 1, 1)


def test_rule_1_a_split_of_a_shuffle():
    halves = node("Split", "h halves", "a b", axis=1)
    after = merged(*shuffle("x", "h"), halves, conv("a", "y"), conv("b", "z"), outputs="y z", w=W3)
    assert ops(after) == ["*Gather", "*Gather", "Conv", "Conv"]
    picks = [after.constants[each.inputs[1]].tolist() for each in after.nodes[:2]]
    assert picks == [[0, 3, 1], [4, 2, 5]]
    assert len({each.name for each in after.nodes}) == 4


def test_rule_1_neighbours_in_order():
    """Two groups, then three, are all channels as they were; a reversed half of reversed ones is a half in order."""
    after = merged(*shuffle("x", "h", 2), *shuffle("h", "k", 3), conv("k", "y"), w=W6)
    assert ops(after) == ["Conv"]
    gathers = [node("Gather", "x back_", "h", axis=1), node("Gather", "h half", "k", axis=1)]
    after = merged(*gathers, conv("k", "y"), w=W3, back_=[5, 4, 3, 2, 1, 0], half=[5, 4, 3])
    assert ops(after) == ["Slice", "Conv"] and after.nodes[0].attributes["starts"] == (0,)


def test_rule_2_what_is_copied_anyway_is_not_copied_twice():
    halves = node("Split", "h halves", "a b", axis=1)
    softmax = [node("Softmax", "a", "y", axis=3), node("Softmax", "b", "z", axis=3)]
    # Two halves are as much as the whole.
    assert ops(merged(*shuffle("x", "h"), halves, *softmax, outputs="y z")).count("*Gather") == 2
    # The whole has a reader that needs a copy: the halves are views of it, but a convolution takes its channels from x.
    whole = node("Softmax", "h", "u", axis=1)
    after = merged(*shuffle("x", "h"), halves, *softmax, whole, outputs="y z u")
    assert ops(after) == ["ChannelShuffle", "Split", "Softmax", "Softmax", "Softmax"]
    after = merged(*shuffle("x", "h"), halves, softmax[0], conv("b", "z"), whole, outputs="y z u", w=W3)
    assert sorted(ops(after)) == ["*Gather", "ChannelShuffle", "Conv", "Slice", "Softmax", "Softmax"]
    # Overlapping pieces are more than the whole.
    pieces = [node("Slice", f"h {i} {j} one", f"p{i}{j}") for i, j in ("03", "14", "25")]
    readers = [node("Softmax", f"p{i}{j}", f"y{i}{j}", axis=3) for i, j in ("03", "14", "25")]
    numbers_ = {str(i): [i] for i in range(6)} | {"one": [1]}
    after = merged(*shuffle("x", "h"), *pieces, *readers, outputs="y03 y14 y25", **numbers_)
    assert ops(after) == ["ChannelShuffle"] + ["Slice"] * 3 + ["Softmax"] * 3


def test_rule_3_a_selection_of_what_is_none():
    assert ops(merged(*shuffle("x", "h"), conv("h", "y"), w=W6)) == ["*Gather", "Conv"]
    assert ops(merged(*shuffle("x", "h"), node("Softmax", "h", "y", axis=3))) == ["ChannelShuffle", "Softmax"]
    constants = {"b": [0], "e": [6], "a": [1], "t": [2], "w": W3}
    every_second = node("Slice", "x b e a t", "h")
    assert ops(merged(every_second, conv("h", "y"), **constants)) == ["*Gather", "Conv"]
    assert ops(merged(every_second, node("Softmax", "h", "y", axis=3), **constants)) == ["Slice", "Softmax"]
    halves = node("Split", "x halves", "a b", axis=1)
    assert ops(merged(halves, conv("a", "y"), conv("b", "z"), outputs="y z", w=W3)) == ["Split", "Conv", "Conv"]


def test_outputs_of_the_graph_keep_their_names():
    after = merged(*shuffle("x", "h"), node("Split", "h halves", "y z", axis=1), outputs="y h z")
    assert ops(after) == ["*Gather"] * 3 and after.outputs == ("y", "h", "z")
