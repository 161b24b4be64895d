"""Sums behind convolutions and squeeze-and-excitations."""

from secateur.graph.ir import RESIDUAL, Graph, Node
from secateur.graph.rewrite import Draft, fuse_pairs, is_fused, merged


def fuse_residual(graph: Graph) -> Graph:
    """Fuse Add into the Conv, Linear or SqueezeExcite that computes one of its operands; the other is its residual.

    1. Both operands and the sum have the same shape, and the operands are two values.
    2. The operand that is fused has no other reader and is no output of the graph.
    3. No activation and no residual stands in between.
    4. Of two such nodes the later one takes the sum, and it runs where the Add stood.
    5. An activation of the Add becomes the node's.
    """
    return fuse_pairs(graph, _merge)


def _merge(draft: Draft, head: Node, tail: Node) -> Node | None:
    if not is_fused(tail, "Add") or not is_fused(head, *RESIDUAL):
        return None
    index = RESIDUAL[head.op]
    if head.attributes["activation"] is not None or head.input(index):
        return None
    shapes = {draft.shape(name) for name in (*tail.inputs, *tail.outputs)}
    if len(shapes) != 1:
        return None
    other = next(name for name in tail.inputs if name != head.outputs[0])
    inputs = (*(head.input(i) for i in range(index)), other)
    return merged(head, tail, inputs, activation=tail.attributes["activation"])
