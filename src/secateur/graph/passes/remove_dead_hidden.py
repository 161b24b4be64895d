"""Hidden channels of squeeze-and-excitations that are computed for nothing.

nobody needs it    its column of w2 is zero
it is known        its row of w1 is zero, so it is hidden(b1), and b2 takes it over
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from secateur.graph.activations import apply_activation
from secateur.graph.ir import Graph, Node
from secateur.graph.passes.remove_dead_channels import whole_blocks, with_more_bias
from secateur.graph.rewrite import Draft, is_fused, rewrite_nodes


def remove_dead_hidden(graph: Graph) -> Graph:
    """Remove the hidden channels of SqueezeExcite that nobody needs or that are known.

    1. One channel stays. Nothing becomes infinite or NaN, else all stay.
    2. Where the zeros of w1 form 1xN blocks of channels, whole blocks go.
    """
    return rewrite_nodes(graph, _rule)


def _rule(draft: Draft, node: Node) -> Sequence[Node] | None:
    if not is_fused(node, "SqueezeExcite"):
        return None
    w1, w2, b1 = draft.constants[node.inputs[1]], draft.constants[node.inputs[3]], node.input(2)
    bias = draft.constants[b1].astype(np.float64) if b1 else np.zeros(len(w1))
    values = apply_activation(node.attributes["hidden"], bias)
    needed = w2.any(axis=0)
    dead = whole_blocks(~needed | (~w1.any(axis=1) & np.isfinite(values)), w1)
    if dead.all():
        dead[0] = False
    if not dead.any():
        return None
    known = dead & needed
    more = w2[:, known].astype(np.float64) @ values[known]
    changed = with_more_bias(draft, node, 3, w2[:, ~dead], more)
    if changed is None:
        return None
    inputs = list(changed.inputs)
    inputs[1] = draft.constant(f"{node.inputs[1]}.thin", w1[~dead])
    if b1:
        inputs[2] = draft.constant(f"{b1}.thin", draft.constants[b1][~dead])
    return [replace(changed, inputs=tuple(inputs))]
