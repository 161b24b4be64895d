"""What selections of channels are, and who takes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_tools import feeds_of, graph_of, node, normal, numbers, run_model
from secateur.graph.channel_selection import Selections, in_order, of_groups, selected, takes, unused
from secateur.graph.ir import Graph, Node, TensorType
from secateur.graph.rewrite import DOMAIN
from secateur.graph.to_onnx import to_onnx

X = {"x": (2, 6, 4, 5)}


def shuffle(name: str, source: str, groups: int) -> Node:
    return Node(name, "ChannelShuffle", (source,), (name,), {"groups": groups}, DOMAIN)


def one_node(*nodes, outputs: str = "y", x=X, **constants) -> Graph:
    return normal(graph_of(nodes, x, {name: np.array(value) for name, value in constants.items()}, outputs))


SELECTIONS = {
    "split": one_node(node("Split", "x s", "y z", axis=1), outputs="y z", s=[4, 2]),
    "slice": one_node(node("Slice", "x b e a t", "y"), b=[5], e=[0], a=[1], t=[-2]),
    "gather": one_node(node("Gather", "x i", "y", axis=1), i=[5, -6, 5]),
    "gather from behind": one_node(node("Gather", "x i", "y", axis=-3), i=[3, 1]),
    "shuffle": Graph(
        (shuffle("y", "x", 3),), ("x",), ("y",), {name: TensorType(X["x"], "float32") for name in "xy"}, {}, 17
    ),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_which_channels_an_output_is(name: str):
    graph = SELECTIONS[name]
    chosen = selected(graph, graph.nodes[0])
    feeds = feeds_of(graph)
    for channels, y in zip(chosen, run_model(to_onnx(graph), feeds), strict=True):
        np.testing.assert_array_equal(feeds["x"][:, channels], y)


def test_what_selects_no_channels_of_maps():
    for graph in (
        one_node(node("Split", "x s", "y z", axis=2), outputs="y z", s=[3, 1]),
        one_node(node("Slice", "x b e a", "y"), b=[0, 0], e=[2, 2], a=[1, 2]),
        one_node(node("Gather", "x i", "y", axis=2), i=[3, 1]),
        one_node(node("Gather", "x i", "y", axis=1), i=3),
        one_node(node("Gather", "x i", "y", axis=1), i=[[3, 1]]),
        one_node(node("Gather", "x i", "y", axis=1), x={"x": (2, 6, 4)}, i=[3, 1]),
        one_node(node("Relu", "x", "y")),
    ):
        assert selected(graph, graph.nodes[0]) is None


@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_groups_that_pick_alike(groups: int, each: int, data):
    first = np.array(data.draw(st.lists(st.integers(0, 20), min_size=each, max_size=each)))
    step = data.draw(st.integers(0, 9))
    channels = np.concatenate([first + step * group for group in range(groups)])
    found = of_groups(channels, groups)
    np.testing.assert_array_equal(found[0], first)
    assert groups == 1 or found[1] == step
    other = channels.copy()
    other[-1] += 1
    assert groups < 3 or of_groups(other, groups) is None


def test_in_order():
    assert in_order(np.array([3, 4, 5])) and in_order(np.array([7]))
    assert not in_order(np.array([4, 3])) and not in_order(np.array([1, 1]))


def test_names_of_nodes_are_unique():
    names = {"a", "a.1"}
    assert [unused("a", names), unused("a", names), unused("b", names)] == ["a.2", "a.3", "b"]


def reader_of(reader: Node, other: tuple[int, ...] = (), constant: bool = False) -> Graph:
    """s, six channels of maps, is read by one node."""
    types = {"x": TensorType((2, 6, 4, 5), "float32"), "s": TensorType((2, 6, 4, 5), "float32")}
    constants = {"w": numbers(8, 3, 1, 1), "i": np.array([5, 4, 3, 2, 1, 0])}
    if other and constant:
        constants["o"] = numbers(*other)
    types |= {name: TensorType(array.shape, array.dtype.name) for name, array in constants.items()}
    types |= {"o": TensorType(other, "float32"), "y": TensorType((2, 6, 4, 5), "float32")}
    gather = Node("s", "Gather", ("x", "i"), ("s",), {"axis": 1})
    return Graph((gather, reader), ("x",), ("y",), types, constants, 17)


def fused(op: str, *inputs: str, **attributes) -> Node:
    return Node("y", op, inputs, ("y",), attributes, DOMAIN)


SHUFFLED = np.array([0, 3, 1, 4, 2, 5])


def test_rule_1_convolutions():
    def taken(node: Node, channels=SHUFFLED) -> bool:
        return takes(reader_of(node), node, "s", channels)

    assert taken(fused("Conv", "s", "w", group=1))
    assert taken(fused("Conv", "s", "w", group=6))
    assert not taken(fused("Conv", "s", "w", group=2))
    assert taken(fused("Conv", "s", "w", group=2), np.array([1, 2, 0, 4, 5, 3]))
    assert not taken(fused("Conv", "x", "w", "", "s", group=1))
    assert not taken(fused("Conv", "s", "w", "", "s", group=1))
    assert not taken(Node("y", "Conv", ("s", "w"), ("y",), {"group": 1}))


def test_rule_2_operators_on_single_numbers():
    def taken(node: Node, other: tuple[int, ...] = (), constant: bool = True) -> bool:
        return takes(reader_of(node, other, constant), node, "s", SHUFFLED)

    assert taken(fused("Pool", "s"))
    assert taken(fused("Activate", "s", "o"), (6,))
    assert taken(fused("Add", "s", "o"), (1, 6, 1, 1))
    assert taken(fused("Add", "o", "s"), (2, 6, 4, 5), constant=False)
    assert not taken(fused("Add", "s", "o"), (1, 6, 1, 1), constant=False)
    assert not taken(fused("Add", "s", "o"), (5,))
    assert not taken(fused("Softmax", "s", axis=1))


def test_rule_3_concatenations():
    for axis in (1, 2):
        node = fused("Concat", "s", "x", axis=axis)
        assert takes(reader_of(node), node, "s", SHUFFLED) == (axis == 1)


def test_elements_copied_for_all_that_is_selected():
    """x is read by a shuffle, half of which a Softmax reads, and the other half a convolution."""
    halves = Node("halves", "Split", ("s",), ("a", "b"), {"axis": 1, "sizes": (3, 3)}, DOMAIN)
    nodes = (shuffle("s", "x", 2), halves, fused("Softmax", "a", axis=1), fused("Conv", "b", "w", group=1))
    types = {name: TensorType((2, 6, 4, 5), "float32") for name in "xsy"}
    types |= {name: TensorType((2, 3, 4, 5), "float32") for name in "ab"}
    selections = Selections(Graph(nodes, ("x",), ("y",), types, {"w": numbers(8, 3, 1, 1)}, 17))
    half = 2 * 3 * 4 * 5
    assert selections.copied("x", np.arange(6)) == half
    assert selections.copied("x", np.array([0, 2, 4, 1, 3, 5])) == 0  # shuffled back: both halves in order
    assert selections.copied("b", np.array([2, 0, 1])) == 0
    assert selections.copied("a", np.array([2, 0, 1])) == half
