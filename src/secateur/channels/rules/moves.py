"""Operators that move numbers: they are run on the ids themselves.

What the program writes down in numbers (where to split, how many parts a reshape makes) it would still write down
for a smaller network. So a picked part of the channels, or an axis of channels that is cut in parts, is frozen.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secateur.channels.side_table import Call, Rule, SideTable, rule


@rule("permute transpose t squeeze unsqueeze expand flip repeat pixel_shuffle pixel_unshuffle movedim")
def move(table: SideTable, call: Call) -> None:
    """Works for any number of channels."""
    _run(table, call, lambda index: call.function(index, *call.args[1:], **call.kwargs))


@rule("view _unsafe_view reshape _reshape_alias view_as")
def reshape(table: SideTable, call: Call) -> None:
    """Joining axes works for any number of channels; cutting one in parts is frozen."""
    x, shape = call.args[0], tuple(call.out.shape)
    if table.is_value(x):
        for inner, outer in _blocks(tuple(x.shape), shape):
            if len(outer) > 1 and any(table.varies(x, axis) for axis in inner):
                table.fix(x, "reshaped into parts of fixed size")
    _run(table, call, lambda index: index.reshape(shape))


@rule("as_strided")
def as_strided(table: SideTable, call: Call) -> None:
    """Another layout of the same numbers is no move; any other use is not followed."""
    x = call.args[0]
    if tuple(call.out.shape) == tuple(x.shape) and call.out.data_ptr() == x.data_ptr():
        _run(table, call, lambda index: index)
    else:
        table.fix(x, "operator as_strided")


@rule("cat stack")
def concat(table: SideTable, call: Call) -> None:
    """Channels one after the other. Along another axis, those side by side become one."""
    parts: list[Tensor] = list(call.args[0])
    axis = int(call.argument(1, "dim", 0)) % call.out.ndim
    kept = [part for part in parts if part.numel()]
    arrays = [table.of(part) for part in kept]
    if call.name == "stack":
        arrays = [np.expand_dims(array, axis) for array in arrays]
    # Where all parts repeat one entry along an axis, so does the result.
    short = tuple(
        slice(0, 1) if i != axis and all(array.strides[i] == 0 for array in arrays) else slice(None)
        for i in range(call.out.ndim)
    )
    ids = np.concatenate([array[short] for array in arrays], axis=axis)
    ids = np.broadcast_to(ids, tuple(call.out.shape))
    for other in range(call.out.ndim):
        if other != axis and table.ids.varies(ids, other):
            table.ids.along(ids, other)
    table.set(call.out, ids)


def _pick(axes: Callable[[Call], Any], reason: str) -> Rule:
    def pick(table: SideTable, call: Call) -> None:
        x = call.args[0]
        results = call.out if isinstance(call.out, tuple | list) else (call.out,)
        whole = len(results) == 1 and tuple(results[0].shape) == tuple(x.shape) and call.name in ("slice", "split")
        weight = table.weight(x)
        if whole:
            _run(table, call, lambda index: index)
            return
        if weight is not None:
            table.fix(x, reason)
            return
        if any(isinstance(axis, int) and table.varies(x, axis % x.ndim) for axis in axes(call)):
            table.fix(x, reason)
        _run(table, call, lambda index: call.function(index, *call.args[1:], **call.kwargs))

    return pick


def _indexed(call: Call) -> list[int]:
    indices: list[Any] = call.args[1]
    return [axis for axis, index in enumerate(indices) if index is not None]


_SPLIT = "split into parts of fixed size"
_PICKED = "picked by fixed positions"
rule("split split_with_sizes chunk tensor_split")(_pick(lambda call: [call.argument(2, "dim", 0)], _SPLIT))
rule("slice select index_select unbind narrow")(_pick(lambda call: [call.argument(1, "dim", 0)], _PICKED))
rule("index")(_pick(_indexed, _PICKED))
rule("roll")(_pick(lambda call: call.argument(2, "dims", ()) or range(call.out.ndim), _PICKED))
rule("channel_shuffle native_channel_shuffle")(_pick(lambda call: [1], "shuffled in fixed groups"))


def _run(table: SideTable, call: Call, operator: Callable[[Tensor], Any]) -> None:
    """Run an operator on the ids, or on the coordinates of a parameter."""
    x = call.args[0]
    weight = table.weight(x)
    if weight is not None and isinstance(call.out, Tensor):
        table.set_weight(call.out, weight.moved(operator))
        return
    moved = operator(torch.from_numpy(table.of(x)) if table.is_value(x) else torch.empty(0))
    results = call.out if isinstance(call.out, tuple | list) else (call.out,)
    for result, ids in zip(results, moved if isinstance(moved, tuple | list) else (moved,), strict=True):
        table.set(result, ids.numpy())


def _blocks(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of axes of both shapes that hold the same numbers, axes of length 1 left out."""
    inner = [axis for axis, length in enumerate(before) if length != 1]
    outer = [axis for axis, length in enumerate(after) if length != 1]
    found: list[tuple[list[int], list[int]]] = []
    while inner and outer:
        left, right = [inner.pop(0)], [outer.pop(0)]
        while (a := math.prod(before[i] for i in left)) != (b := math.prod(after[i] for i in right)):
            if a < b:
                left.append(inner.pop(0))
            else:
                right.append(outer.pop(0))
        found.append((left, right))
    return found
