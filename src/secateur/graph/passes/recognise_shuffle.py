"""Channel shuffles that a file spells out."""

from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import Draft, fused, is_fused, rewrite_nodes


def recognise_shuffle(graph: Graph) -> Graph:
    """Replace the last of Reshape, Transpose, Reshape by ChannelShuffle, where they interleave groups of channels.

    1. (n, c, ...) becomes (n, groups, c / groups, ...), the second and third axis change places, and the first shape
       comes back. Height and width may be one side in between.
    2. With one image the batch may be left out in between.
    """
    producer = graph.producer()

    def rule(draft: Draft, node: Node) -> list[Node] | None:
        if not is_fused(node, "Reshape"):
            return None
        middle = producer.get(node.inputs[0])
        first = producer.get(middle.inputs[0]) if middle is not None and is_fused(middle, "Transpose") else None
        if middle is None or first is None or not is_fused(first, "Reshape"):
            return None
        x = first.inputs[0]
        shape, split = draft.shape(x), draft.shape(first.outputs[0])
        perm = tuple(middle.attributes["perm"])
        if draft.shape(node.outputs[0]) != shape or len(shape) < 2:
            return None
        if shape[0] == 1 and perm[:2] == (1, 0):
            split, perm = (1, *split), (0, *(axis + 1 for axis in perm))
        if len(split) < 3 or perm != (0, 2, 1, *range(3, len(split))):
            return None
        if split[0] != shape[0] or split[1] * split[2] != shape[1]:
            return None
        return [fused("ChannelShuffle", node, (x,), groups=split[1])]

    return rewrite_nodes(graph, rule)
