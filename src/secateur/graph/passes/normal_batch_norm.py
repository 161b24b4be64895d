"""BatchNormalization in normal form."""

from collections.abc import Sequence

import numpy as np

from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import Draft, fused, is_onnx, rewrite_nodes


def normal_batch_norm(graph: Graph) -> Graph:
    """BatchNormalization as ScaleShift: x scale + shift with one scale and one shift (channels,) per channel.

    1. It is the one of inference: one output, and not in training mode.
    2. Scale, bias, mean and variance are constants of one number per channel.
    3. The resulting numbers are finite.
    """
    readers = {name for node in graph.nodes for name in node.reads()} | set(graph.outputs)

    def rule(draft: Draft, node: Node) -> Sequence[Node] | None:
        if not is_onnx(node, "BatchNormalization") or not draft.floats(*node.inputs, node.outputs[0]):
            return None
        if node.attributes.get("training_mode", 0) or any(name in readers for name in node.outputs[1:]):
            return None
        shape = draft.shape(node.inputs[0])
        arrays = [draft.array(name) for name in node.inputs[1:5]]
        if len(shape) < 2 or any(array is None or array.shape != (shape[1],) for array in arrays):
            return None
        gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in arrays)
        with np.errstate(all="ignore"):
            scale = gamma / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
            scale, shift = scale.astype(np.float32), (beta - mean * scale).astype(np.float32)
        if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
            return None
        inputs = (
            node.inputs[0],
            draft.constant(f"{node.name}.scale", scale),
            draft.constant(f"{node.name}.shift", shift),
        )
        return [fused("ScaleShift", node, inputs, node.outputs[:1])]

    return rewrite_nodes(graph, rule)
