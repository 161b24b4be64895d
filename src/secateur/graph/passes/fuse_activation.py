"""Activations behind sums."""

from secateur.graph.ir import Activation, Graph, Node
from secateur.graph.passes.normal_arithmetic import BINARY
from secateur.graph.rewrite import Draft, fuse_pairs, is_fused, merged

_HEADS = ("Conv", "ConvTranspose", "Linear", "SqueezeExcite", *BINARY)


def fuse_activation(graph: Graph) -> Graph:
    """Fuse Activate into the Conv, ConvTranspose, Linear, SqueezeExcite or two-operand node whose output it reads.

    1. That output has no other reader and is no output of the graph.
    2. The node has no activation yet.
    3. prelu, which brings slopes, is fused into Conv only.
    """
    return fuse_pairs(graph, _merge)


def _merge(draft: Draft, head: Node, tail: Node) -> Node | None:
    if not is_fused(tail, "Activate") or not is_fused(head, *_HEADS) or head.attributes["activation"] is not None:
        return None
    activation: Activation = tail.attributes["activation"]
    if activation.kind != "prelu":
        return merged(head, tail, activation=activation)
    if head.op != "Conv":
        return None
    inputs = (*head.inputs[:2], head.input(2), head.input(3), tail.inputs[1])
    return merged(head, tail, inputs, activation=activation)
