"""Chains of moves."""

from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import Draft, fused, is_fused, rewrite_nodes


def merge_layouts(graph: Graph) -> Graph:
    """Let a Reshape read what the Reshape before it read, and a Transpose what the Transpose before it read.

    1. Of two Reshapes only the last shape matters; of two Transposes the permutations are composed.
    2. A Transpose that moves only sides of one is a Reshape.
    3. Of two Slices along different axes one is made that cuts along all of them.
    4. Other readers keep the first one.
    """
    producer = graph.producer()

    def rule(draft: Draft, node: Node) -> list[Node] | None:
        if is_fused(node, "Transpose"):
            shape = draft.shape(node.inputs[0])
            moved = [axis for axis in node.attributes["perm"] if shape[axis] != 1]
            if moved == sorted(moved):
                return [fused("Reshape", node, node.inputs, shape=draft.shape(node.outputs[0]))]
        before = producer.get(node.inputs[0]) if is_fused(node, "Reshape", "Transpose", "Slice") else None
        if before is None or before.domain != node.domain or before.op != node.op:
            return None
        if node.op == "Reshape":
            return [fused("Reshape", node, before.inputs, shape=node.attributes["shape"])]
        if node.op == "Slice":
            if set(before.attributes["axes"]) & set(node.attributes["axes"]):
                return None
            both = {key: (*before.attributes[key], *node.attributes[key]) for key in node.attributes}
            return [fused("Slice", node, before.inputs, **both)]
        perm = tuple(before.attributes["perm"][axis] for axis in node.attributes["perm"])
        return [fused("Transpose", node, before.inputs, perm=perm)]

    return rewrite_nodes(graph, rule)
