"""Functions of one number in normal form."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from secateur.graph.ir import Activation, Graph, Node
from secateur.graph.rewrite import Draft, fused, rewrite_nodes

_PLAIN = {
    "Abs": "abs",
    "Erf": "erf",
    "Exp": "exp",
    "HardSwish": "hard_swish",
    "Mish": "mish",
    "Neg": "neg",
    "Reciprocal": "reciprocal",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Sqrt": "sqrt",
    "Tanh": "tanh",
}


def normal_activations(graph: Graph) -> Graph:
    """ONNX's functions of one number as Activate nodes.

    1. Input and output are float32.
    2. Clip has constant bounds; missing ones are infinite; from 0 upward it is relu.
    3. PRelu with one slope is leaky_relu; with one slope per channel it is prelu with the slopes (channels,) as second
       input; other slopes stay PRelu.
    4. Gelu is gelu or gelu_tanh.
    """
    return rewrite_nodes(graph, _rule)


def _rule(draft: Draft, node: Node) -> Sequence[Node] | None:
    if node.domain != "" or not node.inputs or not draft.floats(*node.inputs, *node.outputs):
        return None
    if node.op == "PRelu":
        return _prelu(draft, node)
    activation = Activation(_PLAIN[node.op]) if node.op in _PLAIN else None
    if node.op in _WITH_PARAMETERS:
        activation = _WITH_PARAMETERS[node.op](draft, node)
    return [fused("Activate", node, node.inputs[:1], activation=activation)] if activation else None


def clip(low: float, high: float) -> Activation:
    """The clip between two bounds, in its simplest name."""
    return Activation("relu") if low == 0 and high == math.inf else Activation("clip", low, high)


def _clip(draft: Draft, node: Node) -> Activation | None:
    bounds = [-math.inf, math.inf]
    for index in (0, 1):
        name = node.input(index + 1)
        if name:
            value = draft.scalar(name)
            if value is None or math.isnan(value):
                return None
            bounds[index] = value
    return clip(*bounds)


def _leaky(draft: Draft, node: Node) -> Activation:
    return Activation("leaky_relu", float(node.attributes.get("alpha", 0.01)))


def _elu(draft: Draft, node: Node) -> Activation:
    return Activation("elu", float(node.attributes.get("alpha", 1.0)))


def _hard_sigmoid(draft: Draft, node: Node) -> Activation:
    return Activation("hard_sigmoid", float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5)))


def _gelu(draft: Draft, node: Node) -> Activation | None:
    kind = {"none": "gelu", "tanh": "gelu_tanh"}.get(str(node.attributes.get("approximate", "none")))
    return Activation(kind) if kind else None


_WITH_PARAMETERS: dict[str, Callable[[Draft, Node], Activation | None]] = {
    "Clip": _clip,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky,
}


def _prelu(draft: Draft, node: Node) -> Sequence[Node] | None:
    """Rule 3."""
    x = node.inputs[0]
    slope = draft.array(node.input(1))
    shape = draft.shape(x)
    if slope is None or draft.shape(node.outputs[0]) != shape:
        return None
    if slope.size == 1:
        return [fused("Activate", node, (x,), activation=Activation("leaky_relu", float(slope.reshape(-1)[0])))]
    aligned = (1,) * (len(shape) - slope.ndim) + slope.shape
    if len(shape) < 2 or aligned != (1, shape[1], *(1,) * (len(shape) - 2)):
        return None
    slopes = draft.constant(f"{node.inputs[1]}.slopes", np.ascontiguousarray(slope.reshape(-1)))
    return [fused("Activate", node, (x, slopes), activation=Activation("prelu"))]
