"""Channels of an ONNX file that are one number at every pixel, whatever the image.

    known(value)   an array of the value's shape: the number, or NaN where it depends on the image

A channel whose weights are all zero is act(bias); what reads only such channels is known too. Behind a product it stays
known where one factor is zero. graph/channel_values.py asks the same of the engine's normal form, where batch norms
are folded and operators fused; here the tensors of the file itself are to be cut, and every operator is run on the
known numbers as it stands. Zero padding keeps only zeros known: at the borders another number is mixed in.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from secateur.channels.onnx_moves import MOVES, moved, too_large
from secateur.channels.onnx_network import View
from secateur.channels.onnx_rules.space import axes_of, pads_of
from secateur.channels.onnx_table import OnnxTrace, onnx_rules
from secateur.graph.ir import Node

Known = NDArray[np.float64]

_FUNCTIONS = frozenset(name for name, rule in onnx_rules.items() if rule.__name__ in ("function", "arithmetic")) - {
    "Dropout",
    "Bernoulli",
}
_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
_MEANS = ("ReduceMax", "ReduceMean", "ReduceMin")


class KnownChannels:
    """What is known of every value of a traced file."""

    def __init__(self, trace: OnnxTrace) -> None:
        self.trace = trace
        self._values: dict[str, Known] = {}
        for node in trace.graph.nodes:
            if any(trace.is_value(name) for name in node.reads()):
                self._visit(node)

    def of(self, name: str) -> Known:
        """The numbers of a value or a constant, NaN where they are not known."""
        if name in self._values:
            return self._values[name]
        constant = self.trace.constant(name)
        if constant is not None and constant.dtype.kind in "fiub":
            return constant.astype(np.float64)
        return np.broadcast_to(np.nan, self.trace.shape(name))

    def channels(self, name: str, axis: int = 1) -> Known:
        """(channels,) the number of each channel that is the same along all other axes."""
        array = self.of(name)
        line = array[tuple(slice(None) if i == axis % array.ndim else 0 for i in range(array.ndim))]
        others = [i for i in range(array.ndim) if i != axis % array.ndim]
        if any(array.strides[i] and array.shape[i] > 1 for i in others):
            same = array == array[tuple(slice(None) if i not in others else slice(0, 1) for i in range(array.ndim))]
            line = np.where(same.all(axis=tuple(others)), line, np.nan)
        return line

    def _visit(self, node: Node) -> None:
        found: Sequence[NDArray[Any]] | None = None
        if not node.domain and all(name in self.trace.graph.types for name in (*node.inputs, *node.outputs) if name):
            if too_large(self.trace.graph, node):
                return
            if node.op in MOVES:
                found = moved(self.trace.graph, node, [self.of(name) for name in node.inputs if name])
            elif node.op in _FUNCTIONS:
                found = [self._function(node)]
            elif node.op in _RULES:
                found = [_RULES[node.op](self, node)]
        for name, array in zip(node.outputs, found or (), strict=False):
            if name:
                with np.errstate(over="ignore", invalid="ignore"):
                    finite = np.isfinite(_short(array).astype(np.float32))
                known = np.where(finite, _short(array), np.nan)
                if not np.isnan(known).all():
                    self._values[name] = np.broadcast_to(known, self.trace.shape(name))

    def _function(self, node: Node) -> Known:
        """Run an operator on single numbers, zeros in the place of what is not known."""
        given = {name: _short(self.of(name)) for name in node.inputs if name}
        known = [~np.isnan(array) for array in given.values()]
        result = np.logical_and.reduce(np.broadcast_arrays(*known))
        if node.op == "Mul":
            zero = [array == 0 for array in given.values()]
            result = result | np.logical_or.reduce(np.broadcast_arrays(*zero))
        if not result.any():
            return np.broadcast_to(np.nan, result.shape)
        types = {name: self.trace.graph.type(name).numpy for name in given}
        inputs = {name: np.nan_to_num(array).astype(types[name]) for name, array in given.items()}
        graph = helper.make_graph(
            [helper.make_node(node.op, node.inputs, node.outputs[:1], **node.attributes)],
            "one",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
                for name, array in inputs.items()
            ],
            [helper.make_empty_tensor_value_info(node.outputs[0])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.trace.graph.opset)])
        run = cast(Callable[..., list[NDArray[Any]]], ReferenceEvaluator(model).run)  # pyright: ignore[reportUnknownMemberType]
        with np.errstate(all="ignore"):
            value = np.asarray(run(None, inputs)[0])
        return np.where(result, value.astype(np.float64), np.nan)


def weight_of(trace: OnnxTrace, view: View) -> NDArray[Any]:
    """A stored tensor as an operand reads it."""
    array = trace.graph.constants[view.tensor]
    order = [axis for axis in view.axes if axis is not None]
    moved_axes = array.transpose([*order, *(axis for axis in range(array.ndim) if axis not in order)])
    shape = [1 if axis is None else array.shape[axis] for axis in view.axes]
    return moved_axes.reshape(shape)


def is_padded(node: Node) -> bool:
    """Whether zeros may join the pixels of a convolution's input, or pixels its output."""
    automatic = node.attributes.get("auto_pad", "NOTSET")
    return (
        node.op == "ConvTranspose" or any(node.attributes.get("pads", ())) or automatic not in ("NOTSET", "VALID", "")
    )


def _short(array: NDArray[Any]) -> NDArray[Any]:
    return array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]


def _convolution(known: KnownChannels, node: Node) -> Known:
    trace, out = known.trace, known.trace.shape(node.outputs[0])
    view = trace.network.view(node.inputs[1])
    if view is None:
        return np.broadcast_to(np.nan, out)
    weight, groups = weight_of(trace, view), int(node.attributes.get("group", 1))
    if node.op == "ConvTranspose":
        # (groups, inputs of each, outputs of each, ...) as the others.
        weight = np.swapaxes(weight.reshape(groups, -1, *weight.shape[1:]), 1, 2)
        weight = weight.reshape(-1, *weight.shape[2:])
    values = _mixed(known.channels(node.inputs[0]), weight, groups, is_padded(node)) + _bias(known, node, out[1])
    return np.broadcast_to(values.reshape(1, -1, *(1 for _ in out[2:])), out)


def _mixed(channels: Known, weight: NDArray[Any], groups: int, padded: bool) -> Known:
    """(outputs,) sums of known channels, NaN where a weight that is not zero reads another one."""
    usable = ~np.isnan(channels) & ((channels == 0) | (not padded))
    parts = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1).astype(np.float64)
    reads = (parts != 0).any(axis=3)
    blocked = (reads & ~usable.reshape(groups, 1, -1)).any(axis=2)
    sums = (parts.sum(axis=3) * np.where(usable, channels, 0.0).reshape(groups, 1, -1)).sum(axis=2)
    return np.where(blocked, np.nan, sums).reshape(-1)


def _bias(known: KnownChannels, node: Node, outputs: int) -> Known:
    name = node.input(2)
    return known.of(name) if name else np.zeros(outputs)


def _product(known: KnownChannels, node: Node) -> Known:
    trace, out = known.trace, known.trace.shape(node.outputs[0])
    reader = next((reader for reader in trace.readers if reader.node is node), None)
    if reader is None:
        return np.broadcast_to(np.nan, out)
    weight = weight_of(trace, reader.weight)
    weight = weight if reader.reads == 1 else weight.T
    values = _mixed(known.channels(node.inputs[0], -1), weight, 1, False) * float(node.attributes.get("alpha", 1.0))
    added = known.of(node.inputs[2]) * float(node.attributes.get("beta", 1.0)) if node.input(2) else 0.0
    return np.broadcast_to(values + added, out)


def _batch_norm(known: KnownChannels, node: Node) -> Known:
    out = known.trace.shape(node.outputs[0])
    scale, shift, mean, variance = (known.of(name) for name in node.inputs[1:5])
    channels = known.channels(node.inputs[0])
    slope = scale / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
    values = np.where(scale == 0, shift, (channels - mean) * slope + shift)
    return np.broadcast_to(values.reshape(1, -1, *(1 for _ in out[2:])), out)


def _instance_norm(known: KnownChannels, node: Node) -> Known:
    """A channel of one number is its own mean: what is left is the shift."""
    out = known.trace.shape(node.outputs[0])
    scale, shift = known.of(node.inputs[1]), known.of(node.inputs[2])
    values = np.where((scale == 0) | ~np.isnan(known.channels(node.inputs[0])), shift, np.nan)
    return np.broadcast_to(values.reshape(1, -1, *(1 for _ in out[2:])), out)


def _pool(known: KnownChannels, node: Node) -> Known:
    out = known.trace.shape(node.outputs[0])
    values = known.channels(node.inputs[0])
    if node.op == "AveragePool" and node.attributes.get("count_include_pad", 0) and is_padded(node):
        values = np.where(values == 0, values, np.nan)
    return np.broadcast_to(values.reshape(1, -1, *(1 for _ in out[2:])), out)


def _mean(known: KnownChannels, node: Node) -> Known:
    array, axes = known.of(node.inputs[0]), axes_of(known.trace, node)
    if axes is None or any(array.strides[axis] and array.shape[axis] > 1 for axis in axes):
        return np.broadcast_to(np.nan, known.trace.shape(node.outputs[0]))
    for axis in axes:
        array = array.take([0], axis=axis)
    return array if node.attributes.get("keepdims", 1) else np.squeeze(array, axes)


def _pad(known: KnownChannels, node: Node) -> Known:
    array, amounts = known.of(node.inputs[0]), pads_of(known.trace, node)
    fill = known.of(node.inputs[2]).reshape(-1)[0] if node.input(2) else 0.0
    if amounts is None or node.attributes.get("mode", "constant") != "constant" or min(min(p) for p in amounts) < 0:
        return np.broadcast_to(np.nan, known.trace.shape(node.outputs[0]))
    for axis, (low, high) in enumerate(amounts):
        shape = [side + low + high if i == axis else side for i, side in enumerate(array.shape)]
        if known.trace.varies(node.inputs[0], axis):
            short = array[
                tuple(slice(0, 1) if i != axis and not n else slice(None) for i, n in enumerate(array.strides))
            ]
            padded = np.pad(
                short, [(low, high) if i == axis else (0, 0) for i in range(array.ndim)], constant_values=fill
            )
            array = np.broadcast_to(padded, shape)
        elif low or high:
            line = array.take([0], axis=axis)
            array = np.broadcast_to(np.where(line == fill, line, np.nan), shape)
    return array


def _resize(known: KnownChannels, node: Node) -> Known:
    out = known.trace.shape(node.outputs[0])
    cropped = node.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    if cropped or out[:2] != known.trace.shape(node.inputs[0])[:2]:
        return np.broadcast_to(np.nan, out)
    values = known.channels(node.inputs[0])
    return np.broadcast_to(values.reshape(1, -1, *(1 for _ in out[2:])), out)


_RULES: dict[str, Callable[[KnownChannels, Node], Known]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Gemm": _product,
    "MatMul": _product,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "Pad": _pad,
    "Resize": _resize,
    **dict.fromkeys(_POOLS, _pool),
    **dict.fromkeys(_MEANS, _mean),
}
