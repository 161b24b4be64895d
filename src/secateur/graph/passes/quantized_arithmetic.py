"""Sums and products of two quantized values."""

from secateur.graph.ir import Graph, Node
from secateur.graph.passes.quantized_epilogue import needed
from secateur.graph.quantized.sources import Sources, grid_of
from secateur.graph.rewrite import Draft, fuse_pairs, fused, is_fused

_OPERATORS = {"Add": "QAdd", "Mul": "QMul"}


def quantized_arithmetic(graph: Graph) -> Graph:
    """Add and Mul of two dequantized values, and the Quantize behind them, as QAdd and QMul.

    1. Nobody else reads the float32 result, and it is no output of the graph.
    2. An activation of theirs stays, unless it is a relu or clip that cuts off nothing the output could hold.
    """
    sources = Sources(graph)

    def merge(draft: Draft, head: Node, tail: Node) -> Node | None:
        if not is_fused(tail, "Quantize") or not is_fused(head, *_OPERATORS):
            return None
        a, b = (sources.integers(draft, name) for name in head.inputs)
        if a is None or b is None:
            return None
        y = grid_of(draft, tail)
        node = fused(
            *(_OPERATORS[head.op], head, (a[0], b[0]), tail.outputs),
            a_scale=a[1].scale,
            a_zero=a[1].zero,
            b_scale=b[1].scale,
            b_zero=b[1].zero,
            y_scale=y.scale,
            y_zero=y.zero,
            activation=needed(head.attributes["activation"], y),
        )
        return Node(
            *(node.name, node.op, node.inputs, node.outputs, node.attributes, node.domain), (*node.absorbed, tail.name)
        )

    return fuse_pairs(graph, merge)
