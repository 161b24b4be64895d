"""Why nodes cannot be lowered: reasons that many operators share."""

from secateur.engine.emit.activations import supported
from secateur.engine.layout import INTEGERS
from secateur.graph.ir import Graph, Node


def elements(node: Node, graph: Graph) -> str | None:
    """Only nodes whose tensors have elements."""
    empty = any(graph.type(name).size == 0 for name in (*node.inputs, *node.outputs) if name)
    return "it has no elements" if empty else None


def normal(node: Node, graph: Graph) -> str | None:
    """Only nodes of the normal form, with elements."""
    if node.domain != "secateur":
        return "it is not in normal form: an operand is computed while the network runs, or the type is not float32"
    return elements(node, graph)


def movable(node: Node, graph: Graph) -> str | None:
    """Only nodes of the normal form that move elements of four or eight bytes, or 8-bit integers."""
    reason = normal(node, graph)
    if reason is not None:
        return reason
    kinds = [graph.type(name) for name in (*node.inputs, *node.outputs) if name]
    wrong = sorted({kind.dtype for kind in kinds if kind.numpy.itemsize not in (4, 8) and kind.dtype not in INTEGERS})
    return f"it moves {', '.join(wrong)}" if wrong else None


def normal_float32(node: Node, graph: Graph) -> str | None:
    """Only nodes of the normal form whose values are float32."""
    reason = normal(node, graph)
    if reason is not None:
        return reason
    types = {graph.type(name).dtype for name in (*node.inputs, *node.outputs) if name}
    return None if types == {"float32"} else f"it works on {', '.join(sorted(types - {'float32'}))}"


def convolution(node: Node, graph: Graph) -> str | None:
    """Only convolutions of the normal form whose activation has a kernel."""
    if node.domain != "secateur":
        return "its weights are computed while the network runs, or it is not a 2-D float32 convolution"
    if not supported(node.attributes.get("activation")):
        return f"the activation {node.attributes['activation']} has no kernel"
    return elements(node, graph)
