"""Arithmetic with constants behind convolutions."""

import numpy as np

from secateur.graph.affine import channel_axis, with_affine
from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import Draft, Floats, fuse_pairs, is_fused


def fold_scale(graph: Graph) -> Graph:
    """Fold Add, Sub, Mul and Div with a constant per channel into the Conv, ConvTranspose or Linear before it.

    1. The convolution's output has no other reader and is no output of the graph.
    2. The constant is one number, or one per row of the weight, and does not widen the shape.
    3. No activation stands in between, and no residual unless the constant is added.
    4. A weight that is zero stays exactly zero; nothing becomes infinite or NaN, else the nodes stay apart.
    5. An activation of the second node becomes the convolution's.
    """
    return fuse_pairs(graph, _merge)


def _merge(draft: Draft, head: Node, tail: Node) -> Node | None:
    if not is_fused(tail, "Add", "Sub", "Mul", "Div"):
        return None
    axis = channel_axis(draft, head)
    first = tail.inputs[0] == head.outputs[0]
    operand = draft.array(tail.inputs[1 if first else 0])
    shape = draft.shape(head.outputs[0])
    if axis is None or operand is None or draft.shape(tail.outputs[0]) != shape:
        return None
    vector = per_channel(operand, shape, axis)
    if vector is None:
        return None
    scale: Floats | None = None
    shift: Floats | None = None
    if tail.op == "Mul":
        scale = vector
    elif tail.op == "Div":
        with np.errstate(all="ignore"):
            scale = np.divide(np.float32(1), vector)
        if not first or not np.isfinite(scale).all():
            return None
    elif tail.op == "Add":
        shift = vector
    elif first:
        shift = -vector
    else:
        scale, shift = np.full_like(vector, -1), vector
    node = with_affine(draft, head, tail, scale, shift)
    if node is None:
        return None
    attributes = {**node.attributes, "activation": tail.attributes["activation"]}
    return Node(node.name, node.op, node.inputs, node.outputs, attributes, node.domain, node.absorbed)


def per_channel(operand: Floats, shape: tuple[int, ...], axis: int) -> Floats | None:
    """A constant that is one number per coordinate of an axis, as (side,); None when it varies elsewhere."""
    if operand.ndim > len(shape):
        return None
    aligned = operand.reshape((1,) * (len(shape) - operand.ndim) + operand.shape)
    if any(side != 1 for index, side in enumerate(aligned.shape) if index != axis):
        return None
    return np.ascontiguousarray(np.broadcast_to(aligned.reshape(-1), (shape[axis],)))
