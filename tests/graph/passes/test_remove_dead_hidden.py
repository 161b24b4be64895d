"""Tests are named after the rules of passes/remove_dead_hidden.py."""

import numpy as np

from graph_tools import assert_same, graph_of, node, numbers, only
from secateur.graph.ir import Graph
from secateur.graph.passes import simplify
from secateur.graph.passes.remove_dead_hidden import remove_dead_hidden

GATE = {"w1": numbers(8, 6, 1, 1), "b1": numbers(8, low=0.1), "w2": numbers(6, 8, 1, 1), "b2": numbers(6)}
DEAD = [0, 3]


def squeezed(bias: str = "b1", **constants) -> Graph:
    """The graph in normal form, but for hidden channels."""
    nodes = [
        node("GlobalAveragePool", "x", "m"), node("Conv", f"m w1 {bias}", "s"), node("HardSwish", "s", "h"),
        node("Conv", "h w2 b2", "e"), node("Sigmoid", "e", "g"), node("Mul", "x g", "y"),
    ]  # fmt: skip
    return simplify(graph_of(nodes, {"x": (2, 6, 5, 5)}, {**GATE, **constants}))


def zeroed(name: str, rows=(), columns=()) -> dict[str, np.ndarray]:
    array = GATE[name].copy()
    array[list(rows)] = 0
    array[:, list(columns)] = 0
    return {name: array}


def hidden(graph: Graph) -> int:
    """Hidden channels that are left; both weights and the bias agree."""
    se = only(graph, "SqueezeExcite")
    left = {graph.shape(se.inputs[1])[0], graph.shape(se.inputs[3])[1], *graph.shape(se.input(2) or se.inputs[1])[:1]}
    assert len(left) == 1
    return left.pop()


def same(**constants) -> tuple[Graph, int]:
    graph = squeezed(**constants)
    whole = {name: array for name, array in GATE.items() if name not in constants}
    nodes = [
        node("GlobalAveragePool", "x", "m"), node("Conv", "m w1 b1", "s"), node("HardSwish", "s", "h"),
        node("Conv", "h w2 b2", "e"), node("Sigmoid", "e", "g"), node("Mul", "x g", "y"),
    ]  # fmt: skip
    assert_same(graph_of(nodes, {"x": (2, 6, 5, 5)}, {**whole, **constants}), graph)
    return graph, hidden(graph)


def test_what_nobody_needs_goes() -> None:
    _, left = same(**zeroed("w2", columns=DEAD))
    assert left == 6


def test_what_is_known_goes_into_the_bias() -> None:
    graph, left = same(**zeroed("w1", rows=DEAD))
    assert left == 6
    value = GATE["b1"] * np.clip(GATE["b1"] / 6 + 0.5, 0, 1)
    total = GATE["b2"] + GATE["w2"][:, DEAD, 0, 0] @ value[DEAD]
    np.testing.assert_allclose(graph.constants[only(graph, "SqueezeExcite").inputs[4]], total, rtol=1e-6)


def test_without_biases() -> None:
    graph = squeezed("", **zeroed("w1", rows=DEAD))
    assert hidden(graph) == 6 and only(graph, "SqueezeExcite").inputs[2] == ""


def test_rule_1_one_channel_stays() -> None:
    assert same(w1=np.zeros((8, 6, 1, 1), np.float32))[1] == 1
    assert same(w2=np.zeros((6, 8, 1, 1), np.float32))[1] == 1


def test_rule_1_nothing_becomes_infinite() -> None:
    b1 = np.full(8, 3e38, np.float32)
    constants = {**zeroed("w1", rows=DEAD), "b1": b1, "w2": np.full((6, 8, 1, 1), 9, np.float32)}
    assert hidden(squeezed(**constants)) == 8


def test_rule_2_blocks_stay_whole() -> None:
    kept = np.repeat(np.array([[1, 0, 1, 1, 0, 1], [0, 1, 0, 1, 1, 0], [1, 1, 0, 0, 1, 1]], bool), 4, axis=0)
    constants = {"w1": numbers(12, 6, 1, 1, low=0.1) * kept[:, :, None, None], "b1": numbers(12)}
    w2 = numbers(6, 12, 1, 1)
    for dead, left in (([1], 12), ([1, 4, 5, 6, 7], 8)):
        assert same(**constants, w2=np.where(np.isin(np.arange(12), dead)[:, None, None], np.float32(0), w2))[1] == left


def test_a_graph_without_one_is_returned_as_it_is() -> None:
    graph = squeezed()
    assert remove_dead_hidden(graph) is graph
