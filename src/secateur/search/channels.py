"""Widths as decisions, one group of channels after the other, seen from the layer that reads it.

    state    = [index, C_o, C_i, H, W, stride, reducible, FLOPs] of the layer, columns over their maximum
    action   = share of its input channels that stays, in [1.5 log10(keep + 1), 1]; the producers lose the same outputs
    accuracy   the action is cut to (keep F_total - F_others) / F_this;  reward = accuracy
               F_this = F_l (kept outputs of l) + F_producer (kept inputs of the producer), undecided ones at the bound
    flops      reward = -max(tolerance, 1 - accuracy) ln(FLOPs)

`reducible` is the work of the network over its dense work, with what is decided at its share and the rest at the lower
bound. FLOPs are 2 MACs, as the source counts them. Whole channels stay, so that a share is rounded: the lower bound up,
everything else down; the learner remembers the rounded share. A group that a tensor reads and makes is solved as a
quadratic. Source: PocketFlow (channel pruning with DDPG).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil, floor, log, log10, sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from secateur.errors import SparsityError
from secateur.search.problem import State, by_maximum

_SLACK = 1e-9


@dataclass(frozen=True)
class ChannelDecision:
    """A group of channels, and the first layer that reads it.

    size                     channels of the group
    outputs, inputs          channels of the layer
    height, width, stride    of its input, and its step
    macs                     of the layer
    step, least              channels that stay are a multiple of `step`, and at least so many
    """

    name: str
    size: int
    outputs: int
    inputs: int
    height: int
    width: int
    stride: int
    macs: int
    step: int = 1
    least: int = 1

    def kept(self, share: float) -> int:
        """Channels that stay: a multiple of the step, no more than the share."""
        return min(max(floor(share * self.size / self.step + _SLACK) * self.step, self.least), self.size)

    def at_least(self, share: float) -> int:
        """The same, no fewer than the share."""
        return min(max(ceil(share * self.size / self.step - _SLACK) * self.step, self.least), self.size)


@dataclass(frozen=True)
class Work:
    """The MACs of one tensor: macs times, for each of its axes, what stays of the axis.

    axes    for each axis that groups reach into: group -> its share of the axis
    """

    macs: int
    axes: tuple[Mapping[str, float], ...] = ()

    def left(self, shares: Mapping[str, float]) -> float:
        """MACs with the groups at these shares; a group without one is whole."""
        product = float(self.macs)
        for axis in self.axes:
            product *= 1.0 - sum(part * (1.0 - shares.get(name, 1.0)) for name, part in axis.items())
        return product


@dataclass(frozen=True)
class ChannelProblem:
    """Widths for `groups`.

    keep       fraction of the MACs that stays
    work       of every tensor of the network
    raises     SparsityError  no groups, or more MACs than `keep` with all groups at the lower bound
    """

    groups: tuple[ChannelDecision, ...]
    work: tuple[Work, ...]
    keep: float
    reward_type: Literal["accuracy", "flops"] = "accuracy"
    tolerance: float = 0.15
    _dense: float = field(init=False, repr=False, compare=False)
    _columns: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.groups:
            raise SparsityError("there is no group of channels whose width could be searched.")
        if not 0.0 < self.keep < 1.0:
            raise SparsityError(f"the fraction of the MACs that stays is above 0 and below 1, not {self.keep:g}.")
        object.__setattr__(self, "_dense", sum(one.left({}) for one in self.work))
        rows = [
            (place, g.outputs, g.inputs, g.height, g.width, g.stride, 0.0, g.macs)
            for place, g in enumerate(self.groups)
        ]
        object.__setattr__(self, "_columns", by_maximum(np.array(rows, np.float64)))
        least = self.macs(()) / self._dense
        if self.reward_type == "accuracy" and least > self.keep * (1 + 1e-12):
            raise SparsityError(
                f"{self.keep:g} of the MACs cannot be kept: with every group at {self.low:.4f} of its channels, the "
                f"least that the search may choose, {least:.4f} are left. Remove less, or lower round_to and "
                "min_channels."
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(group.name for group in self.groups)

    @property
    def width(self) -> int:
        return 8

    @property
    def low(self) -> float:
        return 1.5 * log10(self.keep + 1.0)

    def macs(self, shares: Sequence[float]) -> float:
        """MACs of the network with the first groups at these shares and the others at the lower bound."""
        known = {group.name: group.at_least(self.low) / group.size for group in self.groups}
        known |= dict(zip(self.names, shares, strict=False))
        return sum(one.left(known) for one in self.work)

    def state(self, shares: Sequence[float]) -> State:
        if len(shares) == len(self.groups):
            return np.zeros(self.width, np.float32)
        row = self._columns[len(shares)].copy()
        row[6] = self.macs(shares) / self._dense
        return row.astype(np.float32)

    def share(self, shares: Sequence[float], action: float) -> float:
        group = self.groups[len(shares)]
        if self.reward_type == "accuracy":
            action = min(action, self.largest(shares))
        action = min(max(action, group.at_least(self.low) / group.size), 1.0)
        return group.kept(action) / group.size

    def largest(self, shares: Sequence[float]) -> float:
        """The share of the next group at which the budget is just met; above 1 where it does not bind."""
        nothing, half, all_of_it = (self.macs((*shares, share)) for share in (0.0, 0.5, 1.0))
        square = 2.0 * (all_of_it - 2.0 * half + nothing)
        linear = all_of_it - nothing - square
        rest = self.keep * self._dense - nothing
        if all_of_it - nothing <= 0.0:
            return 1.0
        if abs(square) <= 1e-9 * (all_of_it - nothing):
            return rest / (all_of_it - nothing)
        return (-linear + sqrt(max(linear**2 + 4.0 * square * rest, 0.0))) / (2.0 * square)

    def stored(self, action: float, share: float) -> float:
        """The realised share."""
        return max(share, self.low)

    def reward(self, shares: Sequence[float], accuracy: float) -> float:
        if self.reward_type == "accuracy":
            return accuracy
        return -max(self.tolerance, 1.0 - accuracy) * log(2.0 * self.macs(shares))

    def description(self) -> dict[str, Any]:
        return {
            "kind": "channels",
            "groups": [asdict(group) for group in self.groups],
            "work": [{"macs": one.macs, "axes": [dict(axis) for axis in one.axes]} for one in self.work],
            "keep": self.keep,
            "reward_type": self.reward_type,
            "tolerance": self.tolerance,
        }
