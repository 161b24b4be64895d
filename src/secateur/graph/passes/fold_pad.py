"""Padding in front of windows."""

import math
from dataclasses import replace

import numpy as np

from secateur.graph.ir import Activation, Graph, Node
from secateur.graph.rewrite import Draft, is_fused, rewrite_nodes

_NEVER_NEGATIVE = ("relu", "sigmoid", "hard_sigmoid", "exp", "softplus", "abs", "sqrt")


def fold_pad(graph: Graph) -> Graph:
    """Let Conv and Pool, of floats or integers, pad by themselves what a Pad before them pads in height and width.

    1. The Pad is constant, and pads neither batch nor channels.
    2. Conv: it pads with zeros, for integers with their zero point.
    3. Pool, max: it pads with -infinity, or the lowest integer; or with zeros behind values that are never negative.
    4. Pool, average: it pads with zeros, and the pool counts its own padding or has none; then it counts the padding.
    5. Pool: the padding stays smaller than the window.
    6. Other readers of the Pad keep it.
    """
    producer = graph.producer()

    def rule(draft: Draft, node: Node) -> list[Node] | None:
        if not is_fused(node, "Conv", "Pool", "QConv", "QPool"):
            return None
        pad = producer.get(node.inputs[0])
        if pad is None or not is_fused(pad, "Pad") or pad.attributes["mode"] != "constant":
            return None
        if len(pad.attributes["pads"]) != 8:
            return None
        more = pad.attributes["pads"]
        if any(more[axis] for axis in (0, 1, 4, 5)):
            return None
        more = (more[2], more[3], more[6], more[7])
        own = node.attributes["pads"]
        pads = tuple(a + b for a, b in zip(own, more, strict=True))
        attributes = {**node.attributes, "pads": pads}
        value = float(pad.attributes["value"])
        integers, zero = node.op.startswith("Q"), float(node.attributes.get("x_zero", 0))
        if node.op.endswith("Pool"):
            counted = bool(node.attributes["count_include_pad"])
            if node.attributes["kind"] == "max":
                zeros = value == 0 and not integers and _never_negative(producer.get(pad.inputs[0]))
                lowest = np.iinfo(draft.types[node.inputs[0]].dtype).min if integers else -math.inf
                allowed = value == lowest or zeros
            else:
                allowed = value == zero and (counted or not any(own))
                attributes["count_include_pad"] = True
            kernel, dilations = node.attributes["kernel"], node.attributes["dilations"]
            reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
            if not allowed or any(p >= r for p, r in zip(pads, (*reach, *reach), strict=True)):
                return None
        elif value != zero:
            return None
        inputs = (pad.inputs[0], *node.inputs[1:])
        return [replace(node, inputs=inputs, attributes=attributes, absorbed=(*node.absorbed, pad.name))]

    return rewrite_nodes(graph, rule)


def _never_negative(node: Node | None) -> bool:
    activation: Activation | None = node.attributes.get("activation") if node is not None and node.domain else None
    if activation is None:
        return False
    return activation.kind in _NEVER_NEGATIVE or (
        activation.kind == "clip" and activation.alpha >= 0 <= activation.beta
    )
