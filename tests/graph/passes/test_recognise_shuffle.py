"""Tests are named after the rules of passes/recognise_shuffle.py."""

import numpy as np
import pytest

from graph_tools import assert_same, feeds_of, graph_of, node, normal, only, ops, run_model
from secateur.graph.passes.recognise_shuffle import recognise_shuffle
from secateur.graph.passes.remove_dead import remove_dead
from secateur.graph.to_onnx import to_onnx


def shuffle(split, perm, shape=(2, 6, 4, 5), back=None):
    constants = {"s": np.array(split), "b": np.array(back or shape)}
    nodes = [node("Reshape", "x s", "a"), node("Transpose", "a", "t", perm=perm), node("Reshape", "t b", "y")]
    return normal(graph_of(nodes, {"x": shape}, constants))


@pytest.mark.parametrize("groups", [2, 3, 6])
@pytest.mark.parametrize("sides", [(4, 5), (20,)])
def test_rule_1_groups_are_interleaved(groups: int, sides):
    graph = shuffle((2, groups, 6 // groups, *sides), (0, 2, 1, *range(3, 3 + len(sides))))
    after = remove_dead(recognise_shuffle(graph))
    assert ops(after) == ["ChannelShuffle"] and only(after, "ChannelShuffle").attributes == {"groups": groups}
    assert_same(graph, after)


def test_rule_1_channel_i_of_group_g_goes_to_i_groups_plus_g():
    after = recognise_shuffle(shuffle((2, 3, 2, 4, 5), (0, 2, 1, 3, 4)))
    feeds = feeds_of(after)
    (y,) = run_model(to_onnx(after), feeds)
    for group in range(3):
        for i in range(2):
            np.testing.assert_array_equal(y[:, i * 3 + group], feeds["x"][:, group * 2 + i])


def test_rule_1_other_moves_stay():
    for graph in (
        shuffle((2, 3, 2, 4, 5), (0, 2, 1, 4, 3)),
        shuffle((2, 3, 2, 4, 5), (1, 0, 2, 3, 4)),
        shuffle((2, 3, 2, 4, 5), (0, 2, 1, 3, 4), back=(2, 12, 2, 5)),
        shuffle((2, 2, 3, 2, 10), (0, 1, 3, 2, 4)),
        shuffle((4, 3, 20), (1, 0, 2)),
    ):
        assert recognise_shuffle(graph) is graph


def test_rule_2_one_image_without_its_batch():
    graph = shuffle((3, 2, 4, 5), (1, 0, 2, 3), (1, 6, 4, 5))
    after = remove_dead(recognise_shuffle(graph))
    assert only(after, "ChannelShuffle").attributes == {"groups": 3}
    assert_same(graph, after)
