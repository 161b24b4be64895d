"""Tests are named after the rules of passes/join_selections.py."""

import numpy as np

from graph_tools import assert_same, graph_of, node, normal, numbers, ops
from secateur.graph.ir import Graph
from secateur.graph.passes import LAST_PASSES
from secateur.graph.passes.join_selections import MOST_GROWTH, join_selections
from secateur.graph.passes.recognise_shuffle import recognise_shuffle
from secateur.graph.passes.remove_dead import remove_dead

C = 4
X = {"x": (2, C, 6, 5)}
CONSTANTS = {
    "w": numbers(C, C, 1, 1),
    "half": numbers(C // 2, C // 2, 1, 1),
    "s": np.array([2, 2, C // 2, 6, 5]),
    "back": np.array([2, C, 6, 5]),
    "sizes": np.array([C // 2, C // 2]),
}


def conv(source: str, name: str, weight: str = "w"):
    return node("Conv", f"{source} {weight}", name)


def shuffle(source: str, name: str):
    return [
        node("Reshape", f"{source} s", f"{name}.1"),
        node("Transpose", f"{name}.1", f"{name}.2", perm=[0, 2, 1, 3, 4]),
        node("Reshape", f"{name}.2 back", name),
    ]


def unit(source: str, name: str):
    """A unit of ShuffleNetV2: half of the channels pass, the other half is computed, and all are shuffled."""
    return [
        node("Split", f"{source} sizes", f"{name}left {name}right", axis=1),
        conv(f"{name}right", f"{name}new", "half"),
        node("Concat", f"{name}left {name}new", f"{name}all", axis=1),
        *shuffle(f"{name}all", name),
    ]


def joined(*nodes, outputs: str = "y", passes=(join_selections, remove_dead), **constants) -> Graph:
    graph = normal(graph_of(nodes, X, CONSTANTS | {name: np.array(each) for name, each in constants.items()}, outputs))
    graph = after = remove_dead(recognise_shuffle(graph))
    for _ in range(2):
        for run in passes:
            after = run(after)
    for run in passes:
        assert run(after) is after
    assert_same(graph, after)
    return after


def channels_of_concats(graph: Graph) -> list[int]:
    return [graph.shape(each.outputs[0])[1] for each in graph.nodes if each.op == "Concat"]


def test_rule_1_a_half_that_passes_is_not_copied():
    after = joined(conv("x", "a"), *unit("a", "b"), conv("b", "y"), passes=LAST_PASSES)
    assert ops(after) == ["Conv", "Split", "Conv", "Concat", "*Gather", "Conv"]
    assert channels_of_concats(after) == [C + C // 2]


def test_rule_1_stages_grow():
    nodes = [conv("x", "a0"), *(each for i in range(5) for each in unit(f"a{i}", f"a{i + 1}")), conv("a5", "y")]
    after = joined(*nodes, passes=LAST_PASSES)
    assert channels_of_concats(after) == [C + C // 2 * i for i in range(1, 6)]
    assert ops(after).count("*Gather") == 5 and "ChannelShuffle" not in ops(after)


def test_rule_1_both_halves_in_order_are_the_whole():
    """YOLO: two halves and what is computed from the second one."""
    halves = [conv("x", "a"), node("Split", "a sizes", "l r", axis=1), conv("r", "n", "half")]
    after = joined(*halves, node("Concat", "l r n", "k", axis=1), node("Softmax", "k", "y", axis=1), passes=LAST_PASSES)
    assert ops(after) == ["Conv", "Split", "Conv", "Concat", "Softmax"]
    assert [each.inputs for each in after.nodes if each.op == "Concat"] == [("a", "n")]
    after = joined(*halves, node("Concat", "r l", "k", axis=1), conv("k", "y"), passes=LAST_PASSES)
    assert ops(after) == ["Conv", "*Gather", "Conv"]


def test_rule_1_readers_that_need_a_copy_of_all():
    """Copying all channels afterwards is dearer than copying half of them before."""
    nodes = [conv("x", "a"), node("Split", "a sizes", "l r", axis=1), conv("l", "n", "half")]
    after = joined(*nodes, node("Concat", "n r", "k", axis=1), node("Softmax", "k", "y", axis=1))
    assert ops(after) == ["Conv", "Split", "Conv", "Concat", "Softmax"]
    # Neighbours in order need no copy.
    after = joined(*nodes, node("Concat", "r n", "k", axis=1), node("Softmax", "k", "y", axis=1))
    assert ops(after) == ["Conv", "Split", "Conv", "Concat", "Slice", "Softmax"]
    # A shuffle that is copied anyway is no reason against it.
    nodes += [node("Concat", "n r", "k", axis=1), *shuffle("k", "h"), node("Softmax", "h", "y", axis=1)]
    after = joined(*nodes, passes=LAST_PASSES)
    assert ops(after) == ["Conv", "Split", "Conv", "Concat", "*Gather", "Softmax"]


def test_rule_1_values_that_lie_elsewhere_are_copied_anyway():
    """The graph's input is no result that could be computed in place: all of it would be copied instead of half."""
    nodes = [node("Split", "x sizes", "l r", axis=1), conv("l", "n", "half"), node("Concat", "r n", "k", axis=1)]
    assert ops(joined(*nodes, conv("k", "y"))) == ["Split", "Conv", "Concat", "Conv"]


def test_rule_2_growth_has_a_limit():
    count = 2 * MOST_GROWTH + 2
    nodes = [conv("x", "a0"), *(each for i in range(count) for each in unit(f"a{i}", f"a{i + 1}"))]
    after = joined(*nodes, conv(f"a{count}", "y"), passes=LAST_PASSES)
    sides = channels_of_concats(after)
    assert max(sides) == MOST_GROWTH * C
    assert sides.count(C) == 1  # where half of the channels is copied, and growth begins again


def test_rule_3_one_place_for_each_value():
    nodes = [
        conv("x", "a"), node("Split", "a sizes", "l r", axis=1), conv("l", "n", "half"), conv("r", "m", "half"),
        node("Concat", "l n", "k", axis=1), node("Concat", "r m", "h", axis=1), conv("k", "y"), conv("h", "z"),
    ]  # fmt: skip
    after = joined(*nodes, outputs="y z", passes=LAST_PASSES)
    assert sorted(channels_of_concats(after)) == [C, C + C // 2]
    # Where another concatenation has the value as it is, that is its place.
    nodes = [*nodes[:4], node("Concat", "l n", "k", axis=1), node("Concat", "a m", "h", axis=1)]
    nodes += [conv("k", "y"), node("Softmax", "h", "z", axis=1)]
    assert channels_of_concats(joined(*nodes, outputs="y z", passes=LAST_PASSES)) == [C, C + C // 2]
