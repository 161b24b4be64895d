"""Trying the groups: whether the network's own code runs with fewer channels.

    one unit of each segment of every group goes; the smaller network must compute what the masked one does

Operators do not show whether a program takes a size from its input or has it written down (`x.view(-1, 400)`). So
the smallest removal of all groups at once is tried; where that fails, halves are tried until the groups that do not
shrink are known, and these are frozen. Our own design.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from secateur.channels.groups import ChannelGroup, ChannelGroups
from secateur.channels.mask import mask_channels_
from secateur.channels.plan import RemovalPlan, make_plan
from secateur.channels.remove import remove_channels_
from secateur.channels.trace import plain_copy, tensors_in
from secateur.errors import SparsityError

# Sums of fewer terms differ in the last bits only; a wrong channel differs in the first digits.
_TOLERANCE = 1e-3


def confirmed(model: nn.Module, groups: ChannelGroups, shape: Sequence[int]) -> ChannelGroups:
    """The groups, those frozen that the code of `model` does not let shrink, with what it said.

    shape    of one input without its batch
    """
    network = plain_copy(model)
    parameter = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, *shape, generator=generator).to(parameter.dtype)
    tried = [group for group in groups.free if group.size > group.segments]
    faults = _faults(network, groups, tried, image)
    found = tuple(replace(group, frozen=faults.get(group.name, group.frozen)) for group in groups.groups)
    return ChannelGroups(found, groups.tensors)


def check_runs(model: nn.Module, plan: RemovalPlan, shape: Sequence[int]) -> None:
    """Run a copy of `model` without all that the plan takes out; groups were tried with one unit each.

    raises    SparsityError  the network's code does not run with as few channels
    """
    thinned = plain_copy(model)
    remove_channels_(thinned, plan)
    parameter = next((p for p in thinned.parameters() if p.is_floating_point()), torch.zeros(()))
    error = _error_of(thinned, torch.zeros(1, *shape, dtype=parameter.dtype))
    if error is not None:
        raise SparsityError(
            f"the network's code does not run with the channels that would be left ({error}); ask for less, set a "
            "least number of channels, or exclude layers."
        )


def _error_of(network: nn.Module, image: Tensor) -> str | None:
    """What the network's code says when it runs; None when all is well."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            network(image)
    except Exception as error:  # whatever the program of a stranger raises
        return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return None


def _faults(network: nn.Module, groups: ChannelGroups, tried: list[ChannelGroup], image: Tensor) -> dict[str, str]:
    """Name of a group -> why it does not shrink."""
    fault = _fault(network, groups, tried, image) if tried else None
    if fault is None:
        return {}
    if len(tried) == 1:
        return {tried[0].name: fault}
    half = len(tried) // 2
    found = _faults(network, groups, tried[:half], image) | _faults(network, groups, tried[half:], image)
    rest = [group for group in tried if group.name not in found]
    if rest and (fault := _fault(network, groups, rest, image)) is not None:
        found |= {group.name: f"together with others: {fault}" for group in rest}
    return found


def _fault(network: nn.Module, groups: ChannelGroups, tried: list[ChannelGroup], image: Tensor) -> str | None:
    """What goes wrong when all of these groups lose one unit of each segment."""
    removed = {group.name: _one_of_each_segment(group) for group in tried}
    plan = make_plan(groups, removed, target=0.0, base="channels", criterion="trial")
    masked, thinned = copy.deepcopy(network), copy.deepcopy(network)
    mask_channels_(masked, plan)
    remove_channels_(thinned, plan)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        # Numbers that the network draws are the same for both.
        torch.default_generator.manual_seed(0)
        wanted = tensors_in(masked(image))
        torch.default_generator.manual_seed(0)
        if (error := _error_of(thinned, image)) is not None:
            return f"the network's code does not run with fewer channels ({error})"
        got = tensors_in(thinned(image))
    if len(wanted) != len(got) or not all(_same(a, b) for a, b in zip(wanted, got, strict=True)):
        return "the network's code computes something else with fewer channels"
    return None


def _one_of_each_segment(group: ChannelGroup) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    parts = [np.flatnonzero(group.segment == segment) for segment in range(group.segments)]
    return np.sort(np.array([units[len(units) // 2] for units in parts], dtype=np.int64))


def _same(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    size = float(a.nan_to_num().abs().max()) if a.numel() else 0.0
    return torch.allclose(a.float(), b.float(), rtol=_TOLERANCE, atol=_TOLERANCE * size, equal_nan=True)
