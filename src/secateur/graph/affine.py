"""Scales and shifts per channel, folded into the weights in front of them.

scale (W x + b) + shift = (scale W) x + (scale b + shift)
"""

import numpy as np

from secateur.graph.ir import Node
from secateur.graph.rewrite import Draft, Floats, is_fused, merged


def channel_axis(draft: Draft, node: Node) -> int | None:
    """The axis of a node's output that its weight's rows belong to; None for nodes without rows."""
    if is_fused(node, "Conv", "ConvTranspose"):
        return 1
    return len(draft.shape(node.outputs[0])) - 1 if is_fused(node, "Linear") else None


def with_affine(draft: Draft, head: Node, tail: Node, scale: Floats | None, shift: Floats | None) -> Node | None:
    """`head` computing scale (head) + shift and writing what `tail` wrote.

    scale, shift    (channels,), None for 1 and 0
    returns         None where an activation, or a residual that would have to be scaled, stands in between, and where
                    a number would not be finite
    """
    if head.attributes["activation"] is not None or (head.input(3) and scale is not None):
        return None
    w, b = head.inputs[1], head.input(2)
    weight = draft.constants[w]
    bias = draft.constants[b] if b else None
    with np.errstate(all="ignore"):
        if scale is not None:
            weight = weight * _along_rows(head, scale, weight.shape)
            bias = None if bias is None else bias * scale
        if shift is not None:
            bias = shift if bias is None else bias + shift
    if not np.isfinite(weight).all() or (bias is not None and not np.isfinite(bias).all()):
        return None
    inputs = (
        head.inputs[0],
        w if scale is None else draft.constant(f"{w}.scaled", weight),
        b if bias is None else draft.constant(f"{head.name}.bias", bias),
        *head.inputs[3:],
    )
    return merged(head, tail, inputs)


def _along_rows(head: Node, scale: Floats, shape: tuple[int, ...]) -> Floats:
    if head.op != "ConvTranspose":
        return scale.reshape(-1, *(1,) * (len(shape) - 1))
    # Weight of a transposed convolution: (inputs, outputs / group, kh, kw); rows of group g lie in its inputs.
    group = int(head.attributes["group"])
    return np.repeat(scale.reshape(group, -1), shape[0] // group, axis=0)[:, :, None, None]
