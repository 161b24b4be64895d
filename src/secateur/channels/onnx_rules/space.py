"""Operators over pixels: pooling, padding, resizing, sums. Channels stay apart, or are frozen where they do not."""

from typing import Any

import numpy as np

from secateur.channels.groups import IntArray
from secateur.channels.onnx_table import OnnxTrace, called, mixed, refuse, rule
from secateur.graph.ir import Node


@rule("AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool Resize Upsample AffineGrid GridSample")
def spatial(trace: OnnxTrace, node: Node) -> None:
    """Every output pixel has the channel of its window."""
    x, out = node.inputs[0], node.outputs[0]
    before, after = trace.shape(x), trace.shape(out)
    changed = [axis for axis in range(len(before)) if before[axis] != after[axis]]
    window = range(2, len(before)) if node.op not in ("Resize", "Upsample") else changed
    settings = any(trace.is_value(name) for name in node.inputs[1:])
    indices = len(node.outputs) > 1 and bool(node.outputs[1])
    if mixed(trace, x, {*window, *changed}) or settings or indices:
        refuse(trace, node, f"{called(node)} across channels")
        return
    ids = trace.of(x)
    for axis in changed:
        ids = ids.take([0], axis=axis)
    trace.set(out, ids)


@rule("Pad")
def pad(trace: OnnxTrace, node: Node) -> None:
    """Pixels around an image change nothing; channels around channels are new ones, which nothing makes."""
    x, out = node.inputs[0], node.outputs[0]
    amounts = pads_of(trace, node)
    if amounts is None or any(trace.is_value(name) for name in node.inputs[1:]):
        refuse(trace, node, f"{called(node)} with computed sides")
        return
    ids = trace.of(x)
    for axis, (low, high) in enumerate(amounts):
        if low == high == 0:
            continue
        if not trace.ids.varies(ids, axis):
            sides = list(ids.shape)
            sides[axis] += low + high
            ids = np.broadcast_to(ids.take([0], axis=axis), sides)
        elif min(low, high) < 0 or node.attributes.get("mode", "constant") != "constant":
            refuse(trace, node, f"{called(node)} that mirrors or cuts channels")
            return
        else:
            parts = [_new(trace, ids, axis, low), ids, _new(trace, ids, axis, high)]
            ids = np.concatenate(parts, axis=axis)
    trace.set(out, ids)


def pads_of(trace: OnnxTrace, node: Node) -> list[tuple[int, int]] | None:
    """(before, after) of every axis; None where they are computed."""
    ndim = len(trace.shape(node.inputs[0]))
    given = trace.constant(node.input(1))
    if given is None or (node.input(3) and trace.constant(node.input(3)) is None):
        return None
    axes: Any = trace.constant(node.input(3)) if node.input(3) else np.arange(ndim)
    amounts = [(0, 0)] * ndim
    numbers = [int(number) for number in given.reshape(-1)]
    for place, axis in enumerate(int(axis) % ndim for axis in axes):
        amounts[axis] = (numbers[place], numbers[place + len(axes)])
    return amounts


def _new(trace: OnnxTrace, ids: IntArray, axis: int, count: int) -> IntArray:
    shape = list(ids.shape)
    shape[axis] = count
    atoms = trace.ids.new(count).reshape([-1 if i == axis else 1 for i in range(ids.ndim)])
    return np.broadcast_to(atoms, shape)


@rule(
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare ArgMax ArgMin"
)
def reduction(trace: OnnxTrace, node: Node) -> None:
    """Sums over pixels keep the channels apart; a sum over channels needs all of them."""
    x, out = node.inputs[0], node.outputs[0]
    ids = trace.of(x)
    axes = axes_of(trace, node)
    if axes is None or mixed(trace, x, axes):
        refuse(trace, node, f"{called(node)} over channels")
        return
    for axis in axes:
        ids = ids.take([0], axis=axis)
    if not node.attributes.get("keepdims", 1):
        ids = np.squeeze(ids, axes)
    trace.set(out, ids)


def axes_of(trace: OnnxTrace, node: Node) -> tuple[int, ...] | None:
    """The axes that a reduction runs over; None where they are computed."""
    ndim = len(trace.shape(node.inputs[0]))
    if node.op in ("ArgMax", "ArgMin"):
        return (int(node.attributes.get("axis", 0)) % ndim,)
    given: Any = node.attributes.get("axes")
    if given is None and node.input(1):
        given = trace.constant(node.inputs[1])
        if given is None:
            return None
    if given is None or not len(given):
        return () if node.attributes.get("noop_with_empty_axes", 0) else tuple(range(ndim))
    return tuple(int(axis) % ndim for axis in given)


@rule("Softmax LogSoftmax Hardmax LpNormalization CumSum")
def along_axis(trace: OnnxTrace, node: Node) -> None:
    """A softmax over pixels keeps the channels apart; one over channels needs all of them."""
    x = node.inputs[0]
    ndim = len(trace.shape(x))
    if node.op == "CumSum":
        given = trace.constant(node.inputs[1])
        axis = int(given.reshape(-1)[0]) % ndim if given is not None else None
    else:
        axis = int(node.attributes.get("axis", -1 if trace.graph.opset >= 13 else 1)) % ndim
    if axis is None:
        over = range(ndim)
    elif trace.graph.opset < 13 and node.op in ("Softmax", "LogSoftmax", "Hardmax"):
        over = range(axis, ndim)
    else:
        over = (axis,)
    if mixed(trace, x, over):
        refuse(trace, node, f"{called(node)} over channels")
        return
    trace.set(node.outputs[0], trace.of(x))


@rule("MeanVarianceNormalization")
def mean_variance(trace: OnnxTrace, node: Node) -> None:
    """Each channel by itself, by default."""
    x = node.inputs[0]
    if mixed(trace, x, (axis % len(trace.shape(x)) for axis in node.attributes.get("axes", (0, 2, 3)))):
        refuse(trace, node, f"{called(node)} over channels")
        return
    trace.set(node.outputs[0], trace.of(x))
