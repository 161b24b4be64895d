"""Tests are named after the rules of passes/remove_dead_channels.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_tools import assert_same, graph_of, node, normal, numbers
from secateur.graph.passes.fuse_activation import fuse_activation
from secateur.graph.passes.fuse_residual import fuse_residual
from secateur.graph.passes.remove_dead_channels import remove_dead_channels, whole_blocks

X = {"x": (2, 3, 8, 8)}
ROWS, COLUMNS = [1, 4], [0, 4]
SAME = {"pads": [1, 1, 1, 1]}


def weights(rows=(), columns=(), *shape: int, seed: int = 0) -> np.ndarray:
    array = numbers(*shape, seed=seed)
    array[list(rows)] = 0
    array[:, list(columns)] = 0
    return array


FIRST = {
    "w": weights(ROWS, (), 6, 3, 3, 3),
    "b": numbers(6),
    "n": np.array([1, 0, 1, 1, 0, 1], np.float32) * numbers(6),
}
LAST = {"v": numbers(4, 6, 1, 1), "v3": numbers(4, 6, 3, 3), "u": weights((), COLUMNS, 4, 6, 3, 3), "a": numbers(4)}
MORE = {"s": numbers(6, 1, 1, low=0.1), "d": numbers(6, 1, 3, 3), "m": numbers(6, 5), "long": numbers(6 * 36, 5)}


def channels(nodes, expected, outputs: str = "y", x=X, **constants):
    """Channels of the first convolution after the pass."""
    graph = fuse_activation(normal(graph_of(nodes, x, {**FIRST, **LAST, **MORE, **constants}, outputs)))
    after = remove_dead_channels(graph)
    assert_same(graph, after)
    first = next(each for each in after.nodes if each.op in ("Conv", "Linear"))
    assert len(after.constants[first.inputs[1]]) == expected
    assert (after is graph) == (expected == 6)
    return after


def test_rule_3_known_channels_go_into_the_bias():
    for second in ("h v", "h v a"):
        after = channels([node("Conv", "x w b", "c"), node("Relu", "c", "h"), node("Conv", second, "y")], 4)
        assert after.nodes[-1].input(2)


def test_rule_3_unneeded_channels():
    nodes = [node("Conv", "x w b", "c"), node("Relu", "c", "h"), node("Conv", "h u", "y", **SAME)]
    channels(nodes, 4, w=numbers(6, 3, 3, 3))


def test_rule_3_zero_padding_needs_a_zero():
    nodes = [node("Conv", "x w b", "c"), node("Relu", "c", "h"), node("Conv", "h v3", "y", **SAME)]
    channels(nodes, 6, b=np.abs(FIRST["b"]))
    channels(nodes, 4, b=-np.abs(FIRST["b"]))
    channels(nodes, 4, b=FIRST["n"])
    channels([node("Conv", "x w", "c"), node("Sigmoid", "c", "h"), *nodes[2:]], 6)
    channels([node("Conv", "x w b", "c"), node("Sigmoid", "c", "h"), node("Conv", "h v3", "y")], 4)


@pytest.mark.parametrize(
    "between",
    [
        [node("MaxPool", "c", "h", kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
        [node("AveragePool", "c", "h", kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
        [node("AveragePool", "c", "h", kernel_shape=[2, 2], strides=[2, 2], count_include_pad=1)],
        [node("GlobalAveragePool", "c", "h")],
        [node("BatchNormalization", "c k k k q", "h")],
        [node("PRelu", "c s", "h")],
        [node("Conv", "c d", "h", group=6)],
        [node("Conv", "c d b", "e", group=6, strides=[2, 2]), node("HardSwish", "e", "h")],
        [node("Concat", "c x2", "h0", axis=1), node("Conv", "h0 v2", "h")],
    ],
    ids=lambda nodes: nodes[0].op_type,
)
def test_rule_2_what_keeps_channels_apart(between):
    k = {"k": numbers(6), "q": numbers(6, low=0.1), "v2": numbers(6, 9, 1, 1)}
    channels([node("Conv", "x w b", "c"), *between, node("Conv", "h v", "y")], 4, x={**X, "x2": (2, 3, 6, 6)}, **k)


def test_rule_2_padding_joins_on_the_way():
    pool = node("AveragePool", "c", "h", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    nodes = [node("Conv", "x w b", "c"), pool, node("Conv", "h v", "y")]
    channels(nodes, 6)
    channels(nodes, 4, b=FIRST["n"])
    depthwise = node("Conv", "c d", "h", group=6, **SAME)
    channels([nodes[0], depthwise, nodes[2]], 6)
    channels([nodes[0], depthwise, nodes[2]], 4, b=FIRST["n"])


def test_rule_2_a_depthwise_filter_of_zeros():
    nodes = [node("Conv", "x w b", "c"), node("Conv", "c d b", "h", group=6, **SAME), node("Conv", "h v", "y")]
    after = channels(nodes, 4, w=numbers(6, 3, 3, 3), d=weights(ROWS, (), 6, 1, 3, 3))
    assert after.nodes[1].attributes["group"] == 4


def test_rule_2_flattened_channels():
    nodes = [node("Conv", "x w b", "c"), node("Flatten", "c", "f"), node("Gemm", "f long", "y")]
    after = channels(nodes, 4)
    assert after.nodes[1].attributes["shape"] == (2, 4 * 36)
    pooled = [nodes[0], node("GlobalMaxPool", "c", "g"), node("Flatten", "g", "f"), node("Gemm", "f m", "y")]
    channels(pooled, 4)


def test_rule_2_concat_moves_channels():
    nodes = [
        node("Conv", "x p", "o"),
        node("Conv", "x w b", "c"),
        node("Concat", "o c o", "h", axis=1),
        node("Conv", "h q", "y"),
    ]
    graph = normal(graph_of(nodes, X, {**FIRST, "p": weights([2], (), 3, 3, 3, 3), "q": numbers(4, 12, 1, 1)}))
    after = remove_dead_channels(graph)
    assert [each.attributes for each in after.nodes if each.op == "Concat"] == [{"axis": 1}]
    assert [len(after.constants[each.inputs[1]]) for each in after.nodes if each.op == "Conv"] == [2, 4, 4]
    assert_same(graph, after)
    once = [*nodes[:2], node("Concat", "o c", "h", axis=1), nodes[3]]
    graph = normal(graph_of(once, X, {**FIRST, "p": weights([2], (), 3, 3, 3, 3), "q": numbers(4, 9, 1, 1)}))
    after = remove_dead_channels(graph)
    assert [len(after.constants[each.inputs[1]]) for each in after.nodes if each.op == "Conv"] == [2, 4, 4]
    assert_same(graph, after)


def test_rule_2_all_readers_count():
    nodes = [node("Conv", "x w b", "h"), node("Conv", "h v", "y"), node("Conv", "h u", "z", **SAME)]
    channels(nodes, 5, outputs="y z")
    channels([*nodes[:2], node("Neg", "h", "z")], 6, outputs="y z")
    channels(nodes[:2], 6, outputs="y h")


def test_rule_2_anything_else_blocks():
    for between in (
        [node("Add", "c x6", "h")],
        [node("Mul", "c s", "h")],
        [node("Transpose", "c", "h", perm=[0, 1, 3, 2])],
        [node("Softmax", "c", "h", axis=1)],
        [node("Conv", "c g", "h", group=2)],
    ):
        constants = {"x6": numbers(6, 6, 6), "g": numbers(6, 3, 1, 1)}
        channels([node("Conv", "x w b", "c"), *between, node("Conv", "h v", "y")], 6, **constants)


def test_rule_2_sums_with_an_input_of_the_graph_block():
    nodes = [node("Conv", "x w b", "c"), node("Add", "c r", "h"), node("Conv", "h v", "y")]
    for fuse in (fuse_residual, lambda graph: graph):
        graph = fuse(normal(graph_of(nodes, {**X, "r": (2, 6, 6, 6)}, {**FIRST, **LAST})))
        assert remove_dead_channels(graph) is graph


def test_rule_1_linear_layers():
    nodes = [node("Gemm", "x w1 b", "c"), node("Relu", "c", "h"), node("Gemm", "h m", "y")]
    after = channels(nodes, 4, x={"x": (2, 7)}, w1=np.ascontiguousarray(weights(ROWS, (), 6, 7).T))
    assert after.shape("h") == (2, 4)


def test_rule_5_one_channel_stays():
    nodes = [node("Conv", "x w b", "h"), node("Conv", "h v", "y")]
    channels(nodes, 1, w=np.zeros((6, 3, 3, 3), np.float32))


def test_rule_5_nothing_becomes_infinite():
    big = np.full(6, 3e38, np.float32)
    nodes = [node("Conv", "x w b", "h"), node("Conv", "h v", "y")]
    graph = normal(graph_of(nodes, X, {**FIRST, **LAST, "b": big, "v": 100 * np.abs(LAST["v"])}))
    assert remove_dead_channels(graph) is graph


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_any_zeros(seed: int):
    rng = np.random.default_rng(seed)

    def thin(*shape: int) -> np.ndarray:
        array = rng.standard_normal(shape).astype(np.float32)
        array[rng.random(shape[0]) < 0.4] = 0
        array[:, rng.random(shape[1]) < 0.3] = 0
        return array

    activation = rng.choice(["Relu", "HardSwish", "Tanh", "Sigmoid"])
    pads = [int(rng.integers(0, 2))] * 4
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node(activation, "a", "a2"),
        node("Conv", "a2 w2 b2", "c", group=8, pads=pads),
        node("Conv", "c w3", "d", pads=pads),
        node("MaxPool", "d", "e", kernel_shape=[2, 2], pads=pads),
        node("Concat", "e e", "f", axis=1),
        node("Conv", "f w4 b4", "g"),
        node("GlobalAveragePool", "g", "h"),
        node("Flatten", "h", "i"),
        node("Gemm", "i w5", "y"),
    ]
    bias = {name: rng.standard_normal(n) * (rng.random(n) < 0.5) for name, n in (("b1", 8), ("b2", 8), ("b4", 7))}
    constants = {"w1": thin(8, 3, 3, 3), "w2": thin(8, 1, 3, 3), "w3": thin(6, 8, 3, 3), "w4": thin(7, 12, 1, 1)}
    constants |= {"w5": thin(7, 5), **{name: value.astype(np.float32) for name, value in bias.items()}}
    graph = fuse_activation(normal(graph_of(nodes, {"x": (1, 3, 10, 10)}, constants)))
    assert_same(graph, remove_dead_channels(graph))


def test_rule_6_blocks_stay_whole() -> None:
    """A dead channel inside a living block of four stays; a dead block goes."""
    rng = np.random.default_rng(0)
    kept = np.repeat(rng.random((4, 64)) < 0.3, 4, axis=0)
    weight = rng.standard_normal((16, 64)) * kept
    dead = np.zeros(16, bool)
    dead[[1, 8, 9, 10, 11]] = True
    assert np.flatnonzero(whole_blocks(dead, weight)).tolist() == [8, 9, 10, 11]
    unstructured = rng.standard_normal((16, 64)) * (rng.random((16, 64)) < 0.3)
    assert np.flatnonzero(whole_blocks(dead, unstructured)).tolist() == [1, 8, 9, 10, 11]
