"""Thinning a network that is sparse already: what is entirely zero is taken out.

    a channel goes when each of its consumers reads the same number of it for every image, or multiplies it by zero
    number 0                     nothing else changes
    number c, no zero padding    c times the consumer's weights is added to the consumer's bias: exact
    number c, zero padding       the borders would change: the channel stays, or c is dropped (shift="zero")

A zero filter leaves act(shift) behind, so c is seldom 0 behind a norm. Source: Distiller's thinning (`--thinnify`),
ALGORITHMS.md B8 rules 1 and 4; that constants are found by a run is our own.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from secateur.channels.confirm import confirmed
from secateur.channels.constants import Reading, read_constants
from secateur.channels.groups import ChannelGroup, IntArray, Member, layer_of
from secateur.channels.importance import filters_of
from secateur.channels.plan import ZEROS, RemovalPlan, make_plan
from secateur.channels.tensors import named, tensors_of
from secateur.channels.trace import channel_groups, input_shape
from secateur.errors import SparsityError
from secateur.registry import unknown
from secateur.sparsity import layers_of, unwrapped

Shift = Literal["keep", "zero"]
Values = NDArray[np.float64]

# What becomes of a unit, worst first.
_ALIVE, _BLOCKED, _FOLDED, _FREE = range(4)


def thin_plan(model: nn.Module, input_size: Sequence[int] | None = None, *, shift: Shift = "keep") -> RemovalPlan:
    """The plan that takes the channels that are entirely zero out of `model`.

    shift     keep: a channel whose constant cannot be folded stays, with a remark;
              zero: it goes and its constant is dropped, which changes the function, with a remark
    raises    SparsityError  an operator that hides what depends on the image
              ModelError     the network does not run on such an input
    """
    if shift not in get_args(Shift):
        raise SparsityError(unknown("shift", shift, get_args(Shift)))
    shape = input_shape(model, input_size)
    groups = confirmed(model, channel_groups(model, shape), shape)
    readings = read_constants(model, shape)
    tensors = tensors_of(model)
    biases = _biases(model)
    removed: dict[str, IntArray] = {}
    reasons: dict[str, str] = {}
    folded: list[tuple[Member, IntArray]] = []
    for group in groups.free:
        state, blocker = _states(group, readings, tensors, biases)
        gone = _equal(group, state >= (_FOLDED if shift == "keep" else _BLOCKED))
        if len(gone):
            removed[group.name] = gone
        constant = int((state == _BLOCKED).sum())
        if constant and shift == "keep":
            reasons[group.name] = f"{constant} hold a constant that meets zero padding in {blocker}, and stay"
        elif constant:
            reasons[group.name] = f"the function changes: constants of {constant} are dropped"
        units = gone[state[gone] == _FOLDED]
        folded += [(member, units) for member in group.members if member.role == "consumer" and len(units)]
    bias: dict[str, Values] = {}
    for member, units in folded:
        added = _added(named(tensors, member.tensor), member, member.positions[units].ravel(), readings)
        for name in biases[member.tensor] if added.any() else ():
            bias[name] = bias.get(name, 0.0) + added
    return make_plan(
        groups,
        removed,
        target=0.0,
        base=ZEROS,
        criterion=f"zeros, shift {shift}",
        reasons=reasons,
        bias={name: tuple(values.tolist()) for name, values in bias.items()},
    )


def _states(
    group: ChannelGroup,
    readings: dict[str, list[Reading]],
    tensors: dict[str, list[Tensor]],
    biases: dict[str, list[str]],
) -> tuple[IntArray, str]:
    """What can become of every unit, and the consumer that holds some back."""
    consumers = [member for member in group.members if member.role == "consumer"]
    state = np.full(group.size, _FREE if consumers else _ALIVE, dtype=np.int64)
    blocker = ""
    for member in consumers:
        dead = (filters_of(named(tensors, member.tensor), member).flatten(1) == 0).all(1).cpu().numpy()
        calls = readings.get(member.tensor, [])
        known = np.all([call.known for call in calls], axis=0) if calls else np.zeros(member.length, dtype=bool)
        values = _common(calls, member.length)
        zero = dead | (values == 0)
        foldable = zero | np.isfinite(values)
        if any(call.padded for call in calls) or member.tensor not in biases:
            foldable = zero
        each = np.where(zero, _FREE, np.where(foldable, _FOLDED, np.where(known, _BLOCKED, _ALIVE)))
        units = each[member.positions].min(axis=1)
        if (units == _BLOCKED).any() and not blocker:
            blocker = layer_of(member.tensor)
        state = np.minimum(state, units)
    return state, blocker


def _common(calls: list[Reading], length: int) -> Values:
    """The value of every channel where it is one in all applications, else NaN."""
    if not calls:
        return np.full(length, np.nan)
    values = np.stack([call.values for call in calls])
    return np.where((values == values[0]).all(axis=0), values[0], np.nan)


def _equal(group: ChannelGroup, goes: NDArray[np.bool_]) -> IntArray:
    """As many units of each segment, and never all of them."""
    parts = [np.flatnonzero(goes & (group.segment == segment)) for segment in range(group.segments)]
    count = min([len(part) for part in parts] + [group.size // group.segments - 1])
    return np.sort(np.concatenate([part[:count] for part in parts])).astype(np.int64)


def _added(found: list[Tensor], member: Member, positions: IntArray, readings: dict[str, list[Reading]]) -> Values:
    """(outputs,) what constant input channels add to the outputs of a layer without zero padding."""
    values = np.nan_to_num(_common(readings[member.tensor], member.length)[positions])
    kernels = filters_of(found, member).detach().double().cpu()
    weights = kernels.reshape(*kernels.shape[:2], -1).sum(2).numpy()
    parts = np.zeros((member.groups, weights.shape[1]))
    np.add.at(parts, positions // (member.length // member.groups), values[:, None] * weights[positions])
    return parts.ravel()


def _biases(model: nn.Module) -> dict[str, list[str]]:
    """Name of a weight -> the biases of the layers that use it, each once; a layer without one can gain one."""
    modules = dict(unwrapped(model).named_modules())
    found: dict[str, list[str]] = {}
    for layer in layers_of(model):
        seen: dict[object, str] = {}
        for name in (layer.name, *layer.shared):
            bias = modules[name].bias if name in modules else None
            seen.setdefault(id(bias) if bias is not None else name, f"{name}.bias")
        found[f"{layer.name}.weight"] = list(seen.values())
    return found
