"""Pooling of quantized values."""

from secateur.graph.ir import Graph, Node
from secateur.graph.quantized.sources import Sources, grid_of
from secateur.graph.rewrite import Draft, fuse_pairs, is_fused


def quantized_pooling(graph: Graph) -> Graph:
    """Pool and GlobalPool of a dequantized value, and the Quantize behind them, as QPool and QGlobalPool.

    1. Nobody else reads the float32 result, and it is no output of the graph.
    """
    sources = Sources(graph)

    def merge(draft: Draft, head: Node, tail: Node) -> Node | None:
        if not is_fused(tail, "Quantize") or not is_fused(head, "Pool", "GlobalPool"):
            return None
        found = sources.integers(draft, head.inputs[0])
        if found is None:
            return None
        x, y = found[1], grid_of(draft, tail)
        scales = {"x_scale": x.scale, "x_zero": x.zero, "y_scale": y.scale, "y_zero": y.zero}
        attributes = {**head.attributes, **scales}
        absorbed = (*head.absorbed, tail.name)
        return Node(head.name, f"Q{head.op}", (found[0],), tail.outputs, attributes, head.domain, absorbed)

    return fuse_pairs(graph, merge)
