"""Nodes with weights that make, read or scale channels: convolutions, matrix products, norms."""

import math

import numpy as np

from secateur.channels.groups import IntArray, Role
from secateur.channels.onnx_network import View
from secateur.channels.onnx_quantized import is_quantized
from secateur.channels.onnx_rules.elementwise import joined
from secateur.channels.onnx_table import OnnxTrace, Reader, called, lined, mixed, refuse, rule
from secateur.graph.ir import Node

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@rule("Conv ConvTranspose")
def convolution(trace: OnnxTrace, node: Node) -> None:
    """Filter i makes channel i. A depthwise filter belongs to the channel that it reads."""
    x, out = node.inputs[0], node.outputs[0]
    transposed, groups = node.op == "ConvTranspose", int(node.attributes.get("group", 1))
    weight, outputs, inputs = trace.network.view(node.inputs[1]), trace.shape(out)[1], trace.shape(x)[1]
    if weight is None:
        refuse(trace, node, _why(trace, node))
        return
    trace.applied(weight, math.prod(trace.shape(x if transposed else out)[2:]) * trace.batch)
    if mixed(trace, x, range(2, len(trace.shape(x)))):
        # What it reads stays, as pixels do; what it makes is as free as ever.
        trace.freeze(node, f"{called(node)} with channels along its pixels")
        read = np.full(inputs, -1, dtype=np.int64)
    else:
        read = trace.along(x, 1)
    if groups == inputs and groups > 1 and (outputs == inputs or not transposed):
        made = np.repeat(read, outputs // inputs)
        trace.member(node, weight, 0, made, "depthwise")
    elif transposed and groups > 1:
        reason = f"{called(node)} with groups"
        refuse(trace, node, reason)
        freeze_outputs(trace, node, reason)
        return
    else:
        reads, makes = (0, 1) if transposed else (1, 0)
        trace.member(node, weight, reads, read, "consumer", groups)
        made = trace.produced(node, weight, makes)
        trace.readers.append(Reader(node, weight, reads, makes, read, made, groups))
        if groups > 1:
            trace.ids.balanced(read.reshape(groups, -1))
            trace.ids.balanced(made.reshape(groups, -1))
    _vector(trace, node, 2, made, "parameter")
    trace.set(out, lined(made, 1, len(trace.shape(out))))


@rule("Gemm")
def gemm(trace: OnnxTrace, node: Node) -> None:
    """Row i of the weight makes channel i, column j reads channel j."""
    weight = trace.network.view(node.inputs[1])
    if not trace.is_value(node.inputs[0]) or node.attributes.get("transA", 0) or weight is None:
        refuse(trace, node, _why(trace, node))
        freeze_outputs(trace, node, _why(trace, node))
        return
    swapped = bool(node.attributes.get("transB", 0))
    ids = _product(trace, node, weight, 1 if swapped else 0, 0 if swapped else 1)
    name = node.input(2)
    if trace.is_value(name):
        ids = trace.ids.union(ids, trace.of(name))
    elif name:
        ids = joined(trace, node, name, ids)
    trace.set(node.outputs[0], ids)


@rule("MatMul")
def matmul(trace: OnnxTrace, node: Node) -> None:
    """As a Gemm; rows of pixels that are no channels may stand before the last axis."""
    weight = trace.network.view(node.inputs[1])
    x = node.inputs[0]
    if not trace.is_value(x) or weight is None or len(weight.axes) != 2:
        refuse(trace, node, _why(trace, node))
        return
    trace.set(node.outputs[0], _product(trace, node, weight, 0, 1))


def _product(trace: OnnxTrace, node: Node, weight: View, reads: int, makes: int) -> IntArray:
    x, out = node.inputs[0], trace.shape(node.outputs[0])
    trace.applied(weight, math.prod(trace.shape(x)[:-1]))
    last = len(trace.shape(x)) - 1
    if not trace.varies(x, last) and mixed(trace, x, range(last)):
        # The product runs over pixels (as in an MLP mixer): channels stay apart.
        return np.broadcast_to(trace.of(x)[..., :1], out)
    columns = trace.along(x, last)
    trace.member(node, weight, reads, columns, "consumer")
    rows = trace.produced(node, weight, makes)
    trace.readers.append(Reader(node, weight, reads, makes, columns, rows))
    return np.broadcast_to(rows, out)


@rule("BatchNormalization")
def batch_norm(trace: OnnxTrace, node: Node) -> None:
    """Scale, shift, mean and variance have one entry per channel."""
    if len(node.outputs) > 1 or node.attributes.get("training_mode", 0):
        refuse(trace, node, f"{called(node)} in training mode")
        return
    _norm(trace, node)


@rule("InstanceNormalization")
def instance_norm(trace: OnnxTrace, node: Node) -> None:
    """Scale and shift have one entry per channel; each channel is normalised by itself."""
    x = node.inputs[0]
    if mixed(trace, x, range(2, len(trace.shape(x)))):
        refuse(trace, node, f"{called(node)} over channels")
        return
    _norm(trace, node)


def _norm(trace: OnnxTrace, node: Node) -> None:
    x = node.inputs[0]
    atoms = trace.along(x, 1)
    for index in range(1, len(node.inputs)):
        _vector(trace, node, index, atoms, "norm")
    trace.set(node.outputs[0], lined(atoms, 1, len(trace.shape(x))))


@rule("LayerNormalization RMSNormalization SimplifiedLayerNormalization")
def layer_norm(trace: OnnxTrace, node: Node) -> None:
    """The mean of a layer norm runs over channels: without one of them it is another number."""
    x = node.inputs[0]
    ndim = len(trace.shape(x))
    over = range(int(node.attributes.get("axis", -1)) % ndim, ndim)
    if mixed(trace, x, over) or any(node.outputs[1:]):
        refuse(trace, node, f"{called(node)} over channels")
        return
    trace.set(node.outputs[0], trace.of(x))


def freeze_outputs(trace: OnnxTrace, node: Node, reason: str) -> None:
    """The channels that a layer makes stay: those of one that cannot be followed, so that tables still name it."""
    view = trace.network.view(node.input(1)) if node.op in _LAYERS else None
    if view is None or len(view.axes) < 2:
        return
    rows = node.op == "Conv" or (node.op == "Gemm" and bool(node.attributes.get("transB", 0)))
    axis = 0 if rows else 1 if node.op == "ConvTranspose" else len(view.axes) - 1
    if view.axes[axis] is not None:
        trace.ids.freeze(trace.produced(node, view, axis), reason)


def _vector(trace: OnnxTrace, node: Node, index: int, atoms: IntArray, role: Role) -> None:
    """An operand with one entry for each channel."""
    name = node.input(index)
    if not name:
        return
    view = trace.network.view(name)
    if view is None or len(view.axes) != 1:
        trace.ids.freeze(atoms, f"{called(node)}, whose operand {index} is computed")
    else:
        trace.member(node, view, 0, atoms, role)


def _why(trace: OnnxTrace, node: Node) -> str:
    if is_quantized(trace.network, node.inputs[1]):
        return f"{called(node)}, whose weight is quantized"
    both = trace.is_value(node.inputs[0]) and trace.is_value(node.inputs[1])
    return f"{called(node)} of two activations" if both else f"{called(node)}, whose weight is computed"
