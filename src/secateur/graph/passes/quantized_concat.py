"""Concatenation of quantized values."""

from secateur.graph.ir import Graph, Node
from secateur.graph.quantized.sources import Sources, grid_of
from secateur.graph.rewrite import Draft, fuse_pairs, is_fused


def quantized_concat(graph: Graph) -> Graph:
    """Concat of dequantized values, and the Quantize behind it, as QConcat; as Concat where all numbers are equal.

    1. Nobody else reads the float32 result, and it is no output of the graph.
    """
    sources = Sources(graph)

    def merge(draft: Draft, head: Node, tail: Node) -> Node | None:
        if not is_fused(tail, "Quantize") or not is_fused(head, "Concat"):
            return None
        found = [sources.integers(draft, name) for name in head.inputs]
        parts = [part for part in found if part is not None]
        if len(parts) < len(found):
            return None
        y, axis = grid_of(draft, tail), head.attributes["axis"]
        inputs, absorbed = tuple(name for name, _ in parts), (*head.absorbed, tail.name)
        if all(grid == y for _, grid in parts):
            return Node(head.name, "Concat", inputs, tail.outputs, {"axis": axis}, head.domain, absorbed)
        attributes = {
            "axis": axis,
            "scales": tuple(grid.scale for _, grid in parts),
            "zeros": tuple(grid.zero for _, grid in parts),
            "y_scale": y.scale,
            "y_zero": y.zero,
        }
        return Node(head.name, "QConcat", inputs, tail.outputs, attributes, head.domain, absorbed)

    return fuse_pairs(graph, merge)
