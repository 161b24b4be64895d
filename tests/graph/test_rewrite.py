"""What passes are written with."""

import numpy as np

from graph_tools import graph_of, node, numbers
from secateur.graph.ir import Node
from secateur.graph.rewrite import Draft, axes_of, fuse_pairs, fused, merged, rewrite_nodes


def chain(outputs: str = "y"):
    nodes = [node("Relu", "x", "a"), node("Neg", "a", "b"), node("Abs", "b", "y")]
    return graph_of(nodes, {"x": (2, 3)}, {"c": numbers(3)}, outputs)


def test_names_of_a_draft_are_new():
    draft = Draft(chain())
    assert [draft.constant("a", np.zeros(2)) for _ in range(2)] == ["a.1", "a.2"]
    assert draft.value("c", (1,)) == "c.1" and draft.constant("new", np.zeros(1)) == "new"
    assert draft.shape("a.1") == (2,) and draft.scalar("c") is None and draft.array("x") is None
    assert draft.scalar("new") is None and draft.scalar(draft.constant("f", np.ones(1, np.float32))) == 1


def test_unchanged_graphs_are_returned():
    graph = chain()
    assert rewrite_nodes(graph, lambda draft, each: None) is graph
    assert fuse_pairs(graph, lambda draft, head, tail: None) is graph


def test_fuse_pairs_merges_along_a_chain():
    after = fuse_pairs(chain(), lambda draft, head, tail: merged(head, tail))
    assert len(after.nodes) == 1
    assert (after.nodes[0].inputs, after.nodes[0].outputs) == (("x",), ("y",))
    assert after.nodes[0].name == "Relu_0" and after.nodes[0].absorbed == ("Neg_1", "Abs_2")


def test_fuse_pairs_leaves_read_and_given_values():
    assert len(fuse_pairs(chain("y a"), lambda draft, head, tail: merged(head, tail)).nodes) == 2
    graph = graph_of([node("Relu", "x", "a"), node("Mul", "a a", "y")], {"x": (2,)})
    assert fuse_pairs(graph, lambda draft, head, tail: merged(head, tail)) is graph


def test_rewrite_does_not_ask_about_nodes_without_elements():
    asked: list[str] = []

    def rule(draft: Draft, each: Node) -> None:
        asked.append(each.op)

    rewrite_nodes(graph_of([node("Relu", "x", "y")], {"x": (0, 3)}), rule)
    rewrite_nodes(graph_of([node("NonZero", "x", "y")], {"x": (2, 3)}), rule)
    assert asked == []


def test_fused_nodes_end_with_their_last_operand():
    like = chain().nodes[0]
    assert fused("Conv", like, ("x", "w", "", "", "")).inputs == ("x", "w")
    assert fused("Conv", like, ("x", "w", "", "r", "")).inputs == ("x", "w", "", "r")


def test_axes():
    assert axes_of([-1, 0], 3) == (2, 0)
    assert axes_of([3], 3) is axes_of([-4], 3) is axes_of([0, -3], 3) is None
    assert axes_of([], 0) == ()
