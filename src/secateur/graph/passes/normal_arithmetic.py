"""Arithmetic of two values in normal form."""

from collections.abc import Sequence

import numpy as np

from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import Draft, fused, rewrite_nodes

BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow")
_MANY = {"Sum": "Add", "Max": "Max", "Min": "Min"}


def normal_arithmetic(graph: Graph) -> Graph:
    """ONNX's operators of two values as those of the normal form; an activation can be fused behind them later.

    1. All values are float32.
    2. Sum, Max and Min of more than two values become a chain; of one value, an Identity.
    """
    return rewrite_nodes(graph, _rule)


def _rule(draft: Draft, node: Node) -> Sequence[Node] | None:
    if node.domain != "" or node.op not in (*BINARY, "Sum") or not draft.floats(*node.inputs, *node.outputs):
        return None
    op = _MANY.get(node.op, node.op)
    if len(node.inputs) == 1:
        return [Node(node.name, "Identity", node.inputs, node.outputs)]
    nodes: list[Node] = []
    left = node.inputs[0]
    for index, right in enumerate(node.inputs[1:], 1):
        last = index == len(node.inputs) - 1
        shape = np.broadcast_shapes(draft.shape(left), draft.shape(right))
        out = node.outputs[0] if last else draft.value(f"{node.outputs[0]}.{index}", shape)
        part = fused(op, node, (left, right), (out,), activation=None)
        name = node.name if last else f"{node.name}.{index}"
        nodes.append(Node(name, part.op, part.inputs, part.outputs, part.attributes, part.domain, part.absorbed))
        left = out
    return nodes
