"""Batch normalization behind convolutions."""

import numpy as np

from secateur.graph.affine import channel_axis, with_affine
from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import Draft, fuse_pairs, is_fused


def fold_batch_norm(graph: Graph) -> Graph:
    """Fold ScaleShift (what a BatchNormalization became) into the Conv, ConvTranspose or Linear before it.

    1. The convolution's output has no other reader and is no output of the graph.
    2. No activation and no residual stands in between.
    3. A convolution without bias gains one.
    4. Weights that are zero stay exactly zero; nothing becomes infinite or NaN, else the nodes stay apart.
    """
    return fuse_pairs(graph, _merge)


def _merge(draft: Draft, head: Node, tail: Node) -> Node | None:
    if not is_fused(tail, "ScaleShift") or channel_axis(draft, head) != 1:
        return None
    scale, shift = (np.asarray(draft.constants[name], np.float32) for name in tail.inputs[1:3])
    return with_affine(draft, head, tail, scale, shift)
