"""Pooling of quantized values."""

from dataclasses import replace

from secateur.graph.ir import Graph, Node
from secateur.graph.passes.normal_pooling import window_pool
from secateur.graph.quantized.sources import Sources, grid_of
from secateur.graph.rewrite import Draft, fuse_pairs, is_fused, is_onnx, rewrite_nodes


def quantized_pooling(graph: Graph) -> Graph:
    """Pool and GlobalPool of a dequantized value, and the Quantize behind them, as QPool and QGlobalPool.

    1. Nobody else reads the float32 result, and it is no output of the graph.
    2. MaxPool of 8-bit integers, whose indices nobody reads, is a QPool from and to the same numbers.
    """
    graph = _maxima_of_integers(graph)
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


def _maxima_of_integers(graph: Graph) -> Graph:
    """Rule 2."""
    readers = {name for node in graph.nodes for name in node.reads()} | set(graph.outputs)

    def rule(draft: Draft, node: Node) -> list[Node] | None:
        if not is_onnx(node, "MaxPool") or draft.types[node.inputs[0]].dtype not in ("uint8", "int8"):
            return None
        if len(draft.shape(node.inputs[0])) != 4 or any(name in readers for name in node.outputs[1:]):
            return None
        found = window_pool(draft, node)
        same = {"x_scale": 1.0, "x_zero": 0, "y_scale": 1.0, "y_zero": 0}
        return None if found is None else [replace(found[0], op="QPool", attributes={**found[0].attributes, **same})]

    return rewrite_nodes(graph, rule)
