"""Tests are named after the rules of passes/common_subexpressions.py."""

from graph_tools import assert_same, graph_of, node, normal, numbers, ops
from secateur.graph.passes.common_subexpressions import common_subexpressions
from secateur.graph.passes.remove_dead import remove_dead

X = {"x": (2, 3)}


def test_rule_1_the_same_is_computed_once():
    nodes = [
        node("Relu", "x", "a"),
        node("Relu", "x", "b"),
        node("Exp", "a", "c"),
        node("Exp", "b", "d"),
        node("Add", "c d", "y"),
    ]
    for graph in (graph_of(nodes, X), normal(graph_of(nodes, X))):
        after = remove_dead(common_subexpressions(graph))
        assert [op.strip("*") for op in ops(after)][-1] == "Add" and len(after.nodes) == 3
        assert_same(graph, after)


def test_rule_1_other_attributes_and_random_nodes_stay():
    nodes = [node("Elu", "x", "a", alpha=1.0), node("Elu", "x", "b", alpha=2.0), node("Add", "a b", "y")]
    graph = normal(graph_of(nodes, X))
    assert common_subexpressions(graph) is graph
    nodes = [node("RandomNormalLike", "x", "a"), node("RandomNormalLike", "x", "b"), node("Sub", "a b", "y")]
    graph = graph_of(nodes, X)
    assert common_subexpressions(graph) is graph


def test_rule_2_outputs_are_left_alone():
    graph = graph_of([node("Relu", "x", "y"), node("Relu", "x", "z")], X, {"c": numbers(3)}, "y z")
    after = common_subexpressions(graph)
    assert len(remove_dead(after).nodes) == 2
    assert_same(graph, after)
