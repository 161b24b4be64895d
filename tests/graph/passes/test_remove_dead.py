"""Tests are named after the rules of passes/remove_dead.py."""

from graph_tools import assert_same, graph_of, node, numbers, ops
from secateur.graph.passes.remove_dead import remove_dead

X = {"x": (2, 3), "unread": (4,)}


def test_rule_1_what_nobody_reads_goes():
    nodes = [node("Relu", "x", "a"), node("Exp", "a", "b"), node("Neg", "b", "c"), node("Abs", "a", "y")]
    graph = graph_of(nodes, X)
    after = remove_dead(graph)
    assert ops(after) == ["*Relu", "*Abs"]
    assert_same(graph, after)
    assert remove_dead(after) is after


def test_rule_1_one_read_output_is_enough():
    graph = graph_of([node("Split", "x", "y b", axis=0)], X)
    assert len(remove_dead(graph).nodes) == 1


def test_rule_2_constants_and_types_go_inputs_stay():
    graph = graph_of([node("Add", "x c", "y"), node("Add", "x d", "z")], X, {"c": numbers(3), "d": numbers(3)})
    after = remove_dead(graph)
    assert set(after.constants) == {"c"} and set(after.types) == {"x", "c", "y", "unread"}
    assert after.inputs == ("x", "unread")
