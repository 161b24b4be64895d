"""Operators over whole axes in normal form: means, softmax, layer normalization."""

from collections.abc import Sequence

import numpy as np

from secateur.graph.ir import Graph, Node
from secateur.graph.passes.normal_layout import integers
from secateur.graph.rewrite import Draft, axes_of, fused, is_onnx, rewrite_nodes


def normal_reductions(graph: Graph) -> Graph:
    """ReduceMean, ReduceMax, Softmax, LogSoftmax and LayerNormalization with complete, non-negative axes.

    1. All values are float32; axes are attributes or constants.
    2. A mean or maximum over height and width of four dimensions is a GlobalPool, and a Reshape where the file drops
       the axes. Other maxima stay as they are.
    3. Softmax before opset 13 ran over all axes from one on: it is converted where this is a single axis.
    4. LayerNormalization has constant scale and bias, spread to the normalized shape, and one output that is read.
    """
    readers = {name for node in graph.nodes for name in node.reads()} | set(graph.outputs)

    def rule(draft: Draft, node: Node) -> Sequence[Node] | None:
        if node.domain != "" or not node.inputs or not draft.floats(node.inputs[0], node.outputs[0]):
            return None
        if is_onnx(node, "ReduceMean", "ReduceMax"):
            return _reduce(draft, node)
        if is_onnx(node, "Softmax", "LogSoftmax"):
            return _softmax(draft, node)
        if is_onnx(node, "LayerNormalization") and not any(name in readers for name in node.outputs[1:]):
            return _layer_normalization(draft, node)
        return None

    return rewrite_nodes(graph, rule)


def _reduce(draft: Draft, node: Node) -> Sequence[Node] | None:
    x, y = node.inputs[0], node.outputs[0]
    shape = draft.shape(x)
    axes = integers(draft, node.input(1)) if node.input(1) else tuple(node.attributes.get("axes", ()))
    axes = axes_of(axes, len(shape)) if axes is not None else None
    if axes is None or (not axes and node.attributes.get("noop_with_empty_axes", 0)):
        return None
    axes = tuple(sorted(axes)) or tuple(range(len(shape)))
    if len(shape) == 4 and axes == (2, 3):
        kind = "average" if node.op == "ReduceMean" else "max"
        pooled = (*shape[:2], 1, 1)
        if draft.shape(y) == pooled:
            return [fused("GlobalPool", node, (x,), kind=kind)]
        value = draft.value(f"{y}.pooled", pooled)
        flatten = Node(f"{node.name}.flat", "Reshape", (value,), (y,), {"shape": draft.shape(y)}, "secateur")
        return [fused("GlobalPool", node, (x,), (value,), kind=kind), flatten]
    if node.op == "ReduceMax" or not axes:
        return None
    return [fused("ReduceMean", node, (x,), axes=axes, keepdims=int(node.attributes.get("keepdims", 1)))]


def _softmax(draft: Draft, node: Node) -> Sequence[Node] | None:
    shape = draft.shape(node.inputs[0])
    modern = draft.old.opset >= 13
    axes = axes_of([int(node.attributes.get("axis", -1 if modern else 1))], len(shape))
    if axes is None or (not modern and any(side != 1 for side in shape[axes[0] + 1 :])):
        return None
    return [fused(node.op, node, node.inputs, axis=axes[0])]


def _layer_normalization(draft: Draft, node: Node) -> Sequence[Node] | None:
    x = node.inputs[0]
    shape = draft.shape(x)
    axes = axes_of([int(node.attributes.get("axis", -1))], len(shape))
    if axes is None:
        return None
    axis = axes[0]
    operands: list[str] = []
    for name in node.inputs[1:3]:
        array = draft.array(name)
        if array is None or not draft.floats(name):
            return None
        if array.shape != shape[axis:]:
            try:
                spread = np.broadcast_to(array, shape[axis:])
            except ValueError:
                return None
            name = draft.constant(f"{name}.spread", np.ascontiguousarray(spread))
        operands.append(name)
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    return [fused("LayerNormalization", node, (x, *operands), node.outputs[:1], axis=axis, epsilon=epsilon)]
