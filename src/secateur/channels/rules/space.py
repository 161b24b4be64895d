"""Operators over pixels: pooling, padding, resizing, sums. Channels stay apart, or are frozen where they do not."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from secateur.channels.side_table import Call, SideTable, lined, rule


@rule(
    "avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d_with_indices max_pool3d_with_indices max_pool2d "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_max_pool2d adaptive_max_pool3d "
    "fractional_max_pool2d reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
    "_upsample_nearest_exact2d upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa"
)
def spatial(table: SideTable, call: Call) -> None:
    """Every output pixel has the channel of its window."""
    x = call.args[0]
    found = re.search(r"(\d)d", call.name)
    axis = x.ndim - 1 - int(found[1] if found else 2)
    atoms = table.along(x, axis)
    for result in call.out if isinstance(call.out, tuple | list) else (call.out,):
        table.set(result, lined(atoms, axis, x.ndim))


@rule("constant_pad_nd")
def constant_pad(table: SideTable, call: Call) -> None:
    """Pixels around an image change nothing; channels around channels are of fixed number."""
    x, pad = call.args[:2]
    ids = table.of(x)
    for place in range(0, len(pad), 2):
        axis = x.ndim - 1 - place // 2
        low, high = pad[place : place + 2]
        if not table.ids.varies(ids, axis):
            shape = list(ids.shape)
            shape[axis] += low + high
            ids = np.broadcast_to(np.take(ids, [0], axis=axis), shape)
            continue
        if low < 0 or high < 0:
            table.ids.freeze(ids, "cut by fixed numbers of channels")
        ids = np.take(ids, range(max(-low, 0), ids.shape[axis] - max(-high, 0)), axis=axis)
        sides = [(max(low, 0), max(high, 0)) if i == axis else (0, 0) for i in range(ids.ndim)]
        ids = np.pad(ids, sides, constant_values=-1)
    table.set(call.out, ids)


@rule("all amax amin any linalg_vector_norm logsumexp max mean median min norm prod std std_mean sum var var_mean")
def reduction(table: SideTable, call: Call) -> None:
    """Sums over pixels keep the channels apart; a sum over channels needs all of them."""
    x = call.args[0]
    ids = table.of(x)
    axes = _axes(call, x)
    if x.ndim == 4 and set(axes) <= {2, 3}:
        ids = np.broadcast_to(lined(table.along(x, 1), 1, 4), tuple(x.shape))
    elif any(table.ids.varies(ids, axis) for axis in axes):
        table.fix(x, f"{call.name} over channels")
        return
    for axis in axes:
        ids = np.take(ids, [0], axis=axis)
    for result in call.out if isinstance(call.out, tuple | list) else (call.out,):
        table.set(result, ids.reshape(tuple(result.shape)))


def _axes(call: Call, x: Tensor) -> tuple[int, ...]:
    """The axes summed over: an argument of one or several whole numbers, at the place that the operator gives it."""
    place = 2 if call.name in ("linalg_vector_norm", "norm") else 1
    found: Any = call.argument(place, "dim")
    if isinstance(found, int) and not isinstance(found, bool):
        found = (found,)
    if not isinstance(found, Sequence) or not found:
        return tuple(range(x.ndim))
    return tuple(axis % x.ndim for axis in found)


@rule("_softmax _log_softmax cumsum cumprod softmax log_softmax")
def along_axis(table: SideTable, call: Call) -> None:
    """A softmax over pixels keeps the channels apart; one over channels needs all of them."""
    x, axis = call.args[0], int(call.argument(1, "dim"))
    if table.varies(x, axis % x.ndim):
        table.fix(x, f"{call.name.strip('_')} over channels")
    table.set(call.out, table.of(x))
