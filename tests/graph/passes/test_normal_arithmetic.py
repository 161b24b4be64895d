"""Tests are named after the rules of passes/normal_arithmetic.py."""

import numpy as np
import pytest

from graph_tools import assert_same, graph_of, node, numbers, ops
from secateur.graph.passes.normal_arithmetic import BINARY, normal_arithmetic


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 1), (4,), ()])
def test_rule_1_two_values(op: str, shape):
    graph = graph_of([node(op, "p c", "y")] if op == "Pow" else [node(op, "x c", "y")],
                     {"x": (2, 3, 4)}, {"c": numbers(*shape, low=0.5), "p": numbers(2, 3, 4, low=0.1)})  # fmt: skip
    after = normal_arithmetic(graph)
    assert ops(after) == [op] and after.nodes[0].attributes == {"activation": None}
    assert_same(graph, after)


def test_rule_1_integers_stay():
    graph = graph_of([node("Cast", "x", "i", to=7), node("Div", "i c", "y")], {"x": (4,)}, {"c": np.array([2])})
    assert normal_arithmetic(graph) is graph


@pytest.mark.parametrize(("op", "binary"), [("Sum", "Add"), ("Max", "Max"), ("Min", "Min")])
def test_rule_2_many_values_become_a_chain(op: str, binary: str):
    graph = graph_of([node(op, "a b c", "y")], {"a": (4,), "b": (3, 1), "c": (2, 1, 1)})
    after = normal_arithmetic(graph)
    assert ops(after) == [binary, binary]
    assert_same(graph, after)
    one = graph_of([node(op, "a", "y")], {"a": (4,)})
    assert ops(normal_arithmetic(one)) == ["*Identity"]
