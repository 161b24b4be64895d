"""Several functions of one quantized value as one table."""

import numpy as np

from secateur.graph.ir import Graph, Node
from secateur.graph.quantized.arithmetic import as_spelled, compute
from secateur.graph.rewrite import Draft, fused, is_fused, rewrite_nodes


def quantized_tables(graph: Graph) -> Graph:
    """Operators on functions of the same value as QActivate: what they compute of all 256 bytes.

    1. QActivate of the result of a QActivate is one table.
    2. QMul and QAdd of a value and a QActivate of it, or of two of them (x sigmoid(x), x hard_sigmoid(x)), are a table.
    3. Tables in between stay where somebody else reads them.
    """
    producer = graph.producer()

    def rule(draft: Draft, node: Node) -> list[Node] | None:
        if not is_fused(node, "QActivate", "QMul", "QAdd"):
            return None
        sources = {_argument(producer.get(name), name) for name in node.inputs}
        if len(sources) > 1:
            return None
        (x,) = sources
        single = node.op == "QActivate" and node.inputs[0] == x
        if single or any(draft.shape(name) != draft.shape(node.outputs[0]) for name in (x, *node.inputs)):
            return None
        every = np.arange(256, dtype=np.uint8).view(draft.types[x].dtype)
        operands = [every if name == x else producer[name].attributes["table"] for name in node.inputs]
        evaluate = compute if node.op == "QActivate" else as_spelled
        table = evaluate(node, operands, draft.types[node.outputs[0]].dtype)
        return [fused("QActivate", node, (x,), table=table)]

    return rewrite_nodes(graph, rule)


def _argument(node: Node | None, name: str) -> str:
    """What a value is a function of."""
    return node.inputs[0] if node is not None and is_fused(node, "QActivate") else name
