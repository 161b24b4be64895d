"""Operators with weights that make, read or scale channels: convolutions, linear layers, norms."""

import math
from typing import Any

import numpy as np
from torch import Tensor

from secateur.channels.groups import IntArray
from secateur.channels.side_table import Call, SideTable, lined, rule


@rule("convolution _convolution mkldnn_convolution")
def convolution(table: SideTable, call: Call) -> None:
    """Filter i makes channel i. A depthwise filter belongs to the channel that it reads."""
    x, kernel, bias = call.args[:3]
    transposed, groups = bool(call.argument(6, "transposed", False)), int(call.argument(8, "groups", 1))
    weight = table.plain(kernel)
    if weight is None:
        _refuse(table, (x, kernel, bias), "a convolution whose weight is computed")
        return
    name, outputs, inputs = weight.name, call.out.shape[1], x.shape[1]
    table.ids.tensor(name, weight.shape, _positions(call.out, x, transposed))
    read = table.along(x, 1)
    if groups == 1:
        table.ids.member(name, 0 if transposed else 1, read, "consumer")
        made = table.ids.produced(name, 1 if transposed else 0, outputs)
    elif groups == inputs and (outputs == inputs or not transposed):
        made = np.repeat(read, outputs // inputs)
        table.ids.member(name, 0, made, "depthwise")
    elif transposed:
        _refuse(table, (x, kernel, bias), "a grouped transposed convolution")
        return
    else:
        table.ids.member(name, 1, read, "consumer", groups)
        table.ids.balanced(read.reshape(groups, -1))
        made = table.ids.produced(name, 0, outputs)
        table.ids.balanced(made.reshape(groups, -1))
    _bias(table, bias, made)
    table.set(call.out, lined(made, 1, call.out.ndim))


@rule("mm addmm linear bmm")
def linear(table: SideTable, call: Call) -> None:
    """Row i of the weight makes channel i, column j reads channel j of the last axis."""
    bias: Any = call.args[0] if call.name == "addmm" else call.argument(2, "bias") if call.name == "linear" else None
    x, matrix = call.args[1:3] if call.name == "addmm" else call.args[:2]
    weight = table.weight(matrix)
    reads, makes = (-1, -2) if call.name == "linear" else (-2, -1)
    if weight is None or table.weight(x) is not None:
        both = table.is_value(x) and table.is_value(matrix)
        _refuse(table, (x, matrix, bias), "product of two activations" if both else "a product of computed weights")
        return
    columns, rows = _axis(weight.shape, weight.axis(reads)), _axis(weight.shape, weight.axis(makes))
    if {columns, rows} != {0, 1} or len(weight.shape) < 2 or len(weight.coordinates) > 2:
        _refuse(table, (x, matrix, bias), f"a product with a part of {weight.name}")
        return
    table.ids.tensor(weight.name, weight.shape, math.prod(x.shape[:-1]))
    table.ids.member(weight.name, columns, table.along(x, -1), "consumer")
    made = table.ids.produced(weight.name, rows, call.out.shape[-1])
    _bias(table, bias, made)
    table.set(call.out, lined(made, -1, call.out.ndim))


def _axis(shape: tuple[int, ...], axis: int | None) -> int:
    # An axis of length 1 has no coordinates; it is the one that the other is not.
    if axis is not None:
        return axis
    return next((i for i, length in enumerate(shape[:2]) if length == 1), -1)


@rule(
    "native_batch_norm cudnn_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
    "_batch_norm_no_update _batch_norm_with_update"
)
def batch_norm(table: SideTable, call: Call) -> None:
    """Scale, shift, mean and variance have one entry per channel."""
    x, *parts = call.args[:5]
    parts = [part for part in parts if isinstance(part, Tensor)]
    atoms = table.along(x, 1)
    for part in parts:
        name = table.vector(part)
        if name is None:
            table.fix(part, "a norm with computed parameters")
            table.fix(x, "a norm with computed parameters")
        else:
            table.ids.member(name, 0, atoms, "norm")
    table.set(call.out[0], lined(atoms, 1, x.ndim))


@rule("native_layer_norm native_group_norm _fused_rms_norm")
def norm_over_channels(table: SideTable, call: Call) -> None:
    """The mean of a layer norm runs over channels: without one of them it is another number."""
    x = call.args[0]
    over = [1] if call.name == "native_group_norm" else range(x.ndim - len(call.args[1]), x.ndim)
    if any(table.varies(x, axis) for axis in over):
        for tensor in call.tensors():
            table.fix(tensor, f"{call.name.removeprefix('native_').strip('_')} over channels")
    table.set(call.out[0] if isinstance(call.out, tuple) else call.out, table.of(x))


def _positions(out: Tensor, x: Tensor, transposed: bool) -> int:
    """How often each weight of a convolution is applied."""
    return math.prod(x.shape[2:]) if transposed else math.prod(out.shape[2:])


def _bias(table: SideTable, bias: Any, made: IntArray) -> None:
    if not isinstance(bias, Tensor):
        return
    name = table.vector(bias)
    if name is not None:
        table.ids.member(name, 0, made, "parameter")
    else:
        table.fix(bias, "a computed bias")
        table.ids.freeze(made, "a computed bias")


def _refuse(table: SideTable, tensors: tuple[Any, ...], reason: str) -> None:
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            table.fix(tensor, reason)
