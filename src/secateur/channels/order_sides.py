"""Sides: the layers that look at the channels of a group through a pattern, as matrices with one line per place.

    consumer     place = input channel;  line = |w| of all filters that read it       what N:M cuts in stripes of M
    producer     place = filter;         line = |w| of all that the filter reads      what 1xN cuts in blocks of N

Stripes never cross the groups of a grouped convolution. Where the channels of another group stand among these, as
in a concatenation, only stripes that hold nothing else can be searched.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from secateur.channels.groups import ChannelGroup, IntArray, layer_of
from secateur.sparsity import Layer, filters_first

# A line of one place, from the weight filter first and the groups of the convolution.
Lines = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, eq=False)
class Side:
    """One layer that looks at the channels of a group.

    places    (units,) int64: the place of each unit on this axis
    lines     (units, numbers) float32, or float64 of a network in double precision: the line of each unit
    each      places of one group of the layer's convolution
    """

    layer: Layer
    places: IntArray
    lines: NDArray[np.floating]
    each: int


def sides_of(
    weights: dict[str, tuple[Layer, Tensor]], group: ChannelGroup, role: Literal["producer", "consumer"], lines: Lines
) -> tuple[Side, ...]:
    """The layers of `weights` that make or read the channels of a group, one place for each unit.

    weights    layer -> the layer and its weight as stored;  a layer that reads several places per unit is left out
    """
    found: list[Side] = []
    for member in group.members:
        name = layer_of(member.tensor)
        if member.role != role or name not in weights or member.tensor != f"{name}.weight":
            continue
        if member.positions.shape[1] != 1:
            continue
        layer, weight = weights[name]
        ours = filters_first(weight.detach(), layer.kind, layer.groups).abs()
        ours = ours if ours.dtype == torch.float64 else ours.float()
        places = member.positions[:, 0]
        table = lines(ours, layer.groups).cpu().numpy()
        found.append(Side(layer, places, np.ascontiguousarray(table[places]), member.length // layer.groups))
    return tuple(found)


def by_input(weight: Tensor, groups: int) -> Tensor:
    """(input channels, numbers) lines of the consumers of a weight (C_out, C_in/groups, kernel...)."""
    parts = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return parts.transpose(1, 2).reshape(groups * weight.shape[1], -1)


def by_kernel(weight: Tensor, groups: int) -> Tensor:
    """(filters, input channels) sums over kernels: what a block of whole kernels looks at."""
    return weight.flatten(2).sum(2) if weight.ndim > 2 else weight


def by_position(weight: Tensor, groups: int) -> Tensor:
    """(filters, input positions): what a block of single positions looks at."""
    return weight.flatten(1)


def common_stripes(sides: Sequence[Side], units: IntArray, size: int, short: bool) -> tuple[IntArray, list[Side]]:
    """Units in the order of their stripes, and the sides that cut them into the same stripes.

    units      that may change places: those of one segment
    short      a shorter stripe at the end of a layer counts too, where all its places belong to these units
    returns    (units,) those in whole stripes of the heaviest side, stripe by stripe, a shorter one last;  the
               sides that agree with it
    """
    ranked = sorted(sides, key=lambda side: -float(side.lines[units].sum(dtype=np.float64)))
    first = _stripes(ranked[0], units, size, short)
    wanted = {frozenset(stripe) for stripe in first}
    agree = [side for side in ranked if wanted <= {frozenset(stripe) for stripe in _stripes(side, units, size, short)}]
    in_order = [unit for stripe in sorted(first, key=len, reverse=True) for unit in stripe]
    return np.array(in_order, dtype=np.int64), [side for side in sides if side in agree]


def _stripes(side: Side, units: IntArray, size: int, short: bool) -> list[list[int]]:
    held: dict[tuple[int, int], list[int]] = defaultdict(list)
    for unit in units[np.argsort(side.places[units], kind="stable")].tolist():
        part, place = divmod(int(side.places[unit]), side.each)
        held[part, place // size].append(unit)
    whole, rest = divmod(side.each, size)
    expected = dict.fromkeys(range(whole), size) | ({whole: rest} if rest and short else {})
    return [stripe for (_, number), stripe in held.items() if len(stripe) == expected.get(number)]


def weights_by_layer(layers: Sequence[Layer], model: nn.Module) -> dict[str, tuple[Layer, Tensor]]:
    """Name -> layer and its weight, zeros of masks included."""
    modules = dict(model.named_modules())
    return {layer.name: (layer, cast(Tensor, modules[layer.name].weight)) for layer in layers}
