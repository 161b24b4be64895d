"""Which channels go: the lowest scores, as many as the target needs.

    uniform   the same share of every group       global   the lowest scores of the whole network
    base      channels: the share itself;   macs, parameters: the smallest share at which that fraction is gone

Counts are worked out from the shapes: removing u units of a group takes u k entries from each axis that it reaches
into with k positions. Equal numbers go in each segment of a group; a group keeps a multiple of `round_to` and never
fewer than `min_channels`. Source: ALGORITHMS.md A5 (structures), B8; our own bisection.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from secateur.channels.groups import ChannelGroup, ChannelGroups, IntArray, layer_of
from secateur.errors import SparsityError
from secateur.registry import unknown
from secateur.sparsity import removed_count

Base = Literal["channels", "macs", "parameters"]
Scope = Literal["uniform", "global"]
Scores = NDArray[np.float64]

_STEPS = 60


@dataclass(frozen=True)
class ChannelSelection:
    """removed: name of a group -> its units that go; reasons: name -> why none goes, beside frozen groups."""

    removed: dict[str, IntArray]
    reasons: dict[str, str]


def select_channels(
    groups: ChannelGroups,
    scores: Mapping[str, Scores],
    target: float,
    *,
    base: Base = "channels",
    scope: Scope = "uniform",
    ratios: Mapping[str, float] | None = None,
    exclude: Iterable[str] = (),
    round_to: int = 1,
    min_channels: int | None = None,
) -> ChannelSelection:
    """The units to remove.

    scores          name of a free group -> (size,) larger = keep; a group without scores stays whole
    target          fraction of `base` to remove, 0 <= target < 1; of MACs and parameters the whole network counts
    ratios          glob of a layer -> share of its group that goes, whatever the target says
    exclude         globs of layers whose groups stay whole
    round_to        channels that stay are a multiple of this, or all of them
    min_channels    fewest channels that stay; by default `round_to`
    raises          SparsityError  a glob that matches nothing, a target that cannot be reached: where no channel
                                   may go, any above 0
    """
    _check(target, base, scope, round_to, min_channels)
    reasons = {group.name: f"excluded by '{glob}'" for glob in exclude for group in _matching(groups, glob)}
    given = {group.name: share for glob, share in (ratios or {}).items() for group in _matching(groups, glob)}
    for name, share in given.items():
        if not 0.0 <= share < 1.0:
            raise SparsityError(f"{name}: the share of channels to remove must be from 0 to below 1, not {share}.")
    for group in groups.free:
        if group.size == group.segments:
            reasons.setdefault(group.name, "one unit is left in every segment, nothing can go")
        elif group.name not in scores:
            reasons.setdefault(group.name, "the criterion has no scores for its layers")
    candidates = [group for group in groups.free if group.name not in reasons]
    limits = Limits(round_to, round_to if min_channels is None else min_channels)
    fixed = {group.name: limits.removed(group, given[group.name]) for group in candidates if group.name in given}
    open_groups = [group for group in candidates if group.name not in given]
    share_of = _global_counts if scope == "global" else _uniform_counts
    counts_at = share_of(open_groups, scores, limits)
    if target > 0 and not any(fixed.values()) and not any(counts_at(1.0).values()):
        raise SparsityError(_nothing(groups, reasons, limits, target, base))
    counts = counts_at(target) if base == "channels" else _smallest(groups, fixed, counts_at, target, base)
    counts |= fixed
    removed = {group.name: lowest(group, scores[group.name], counts[group.name]) for group in candidates}
    for group in candidates:
        if not counts[group.name] and target > 0:
            reasons[group.name] = (
                f"at least {limits.least(group)} channels stay" if round_to > 1 else "too few channels"
            )
    return ChannelSelection({name: units for name, units in removed.items() if len(units)}, reasons)


@dataclass(frozen=True)
class Limits:
    """How many channels of a group may go."""

    round_to: int
    min_channels: int

    def least(self, group: ChannelGroup) -> int:
        """Fewest units that stay."""
        step = self._step(group)
        return min(group.size, max(step, math.ceil(self.min_channels / step) * step))

    def removed(self, group: ChannelGroup, share: float) -> int:
        """Units that go at a share, never more than asked for."""
        each = group.size // group.segments
        return self.allowed(group, removed_count(each, share) * group.segments)

    def allowed(self, group: ChannelGroup, wanted: int) -> int:
        """The largest number of units up to `wanted` that may go."""
        step = self._step(group)
        kept = max(math.ceil((group.size - wanted) / step) * step, self.least(group))
        return max(group.size - kept, 0)

    def _step(self, group: ChannelGroup) -> int:
        return math.lcm(self.round_to, group.segments)


def lowest(group: ChannelGroup, scores: Scores, count: int) -> IntArray:
    """The units of the lowest scores, equally many in each segment; ties by index. Ascending."""
    order = np.argsort(scores, kind="stable")
    each = count // group.segments
    parts = [order[group.segment[order] == segment][:each] for segment in range(group.segments)]
    return np.sort(np.concatenate(parts)).astype(np.int64)


def _nothing(groups: ChannelGroups, reasons: Mapping[str, str], limits: Limits, target: float, base: str) -> str:
    """The sentence for a target above 0 of a network that can lose no channel."""
    layers: dict[str, list[str]] = {}
    for group in groups.groups:
        least = f"at least {limits.least(group)} channels stay"
        layers.setdefault(group.frozen or reasons.get(group.name) or least, []).append(group.name)
    told = [f"{_some(names)}: {reason}" for reason, names in layers.items()]
    why = "; ".join(told) or "there is no layer whose channels can be followed"
    return f"{100 * target:g} % of the {base} cannot be removed: no channel may go ({why})."


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _uniform_counts(
    groups: list[ChannelGroup], scores: Mapping[str, Scores], limits: Limits
) -> Callable[[float], dict[str, int]]:
    return lambda share: {group.name: limits.removed(group, share) for group in groups}


def _global_counts(
    groups: list[ChannelGroup], scores: Mapping[str, Scores], limits: Limits
) -> Callable[[float], dict[str, int]]:
    owner = np.concatenate([np.full(group.size, i) for i, group in enumerate(groups)] or [np.zeros(0, dtype=int)])
    values = np.concatenate([scores[group.name] for group in groups] or [np.zeros(0)])
    order = np.argsort(values, kind="stable")

    def counts(share: float) -> dict[str, int]:
        wanted = np.bincount(owner[order[: removed_count(len(order), share)]], minlength=len(groups))
        return {group.name: limits.allowed(group, int(wanted[i])) for i, group in enumerate(groups)}

    return counts


def _smallest(
    groups: ChannelGroups,
    fixed: dict[str, int],
    counts_at: Callable[[float], dict[str, int]],
    target: float,
    base: str,
) -> dict[str, int]:
    """The counts at the smallest share at which the target is met, less what the target does not need."""
    count = counter(groups)
    dense = count({})[base == "macs"]
    goal = dense * (1.0 - target)

    def left(share: float) -> int:
        return count(counts_at(share) | fixed)[base == "macs"]

    most = left(1.0)
    if most > goal:
        raise SparsityError(
            f"{100 * target:g} % of the {base} cannot be removed: without every channel that may go, "
            f"{100 * (1 - most / dense):.1f} % of {dense:,} would be gone. Ask for less, "
            "lower round_to or min_channels, or exclude less."
        )
    low, high = 0.0, 1.0
    if left(low) <= goal:
        return counts_at(low)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if left(middle) <= goal else (middle, high)
    # Groups of one size take their next step at the same share: those that need not are given it back.
    counts, before = counts_at(high), counts_at(low)
    for name in counts:
        fewer = counts | {name: before[name]}
        if count(fewer | fixed)[base == "macs"] <= goal:
            counts = fewer
    return counts


def counter(groups: ChannelGroups) -> Callable[[Mapping[str, int]], tuple[int, int]]:
    """A function from units removed of each group to (parameters, MACs) that stay, by arithmetic alone."""
    reach: dict[str, list[tuple[int, int, str, int]]] = {name: [] for name in groups.tensors}
    for group in groups.groups:
        for member in group.members:
            entry = (member.axis, member.groups, group.name, member.positions.shape[1])
            reach.setdefault(member.tensor, []).append(entry)

    def count(removed: Mapping[str, int]) -> tuple[int, int]:
        parameters = macs = 0
        for name, use in groups.tensors.items():
            shape = list(use.shape)
            gone: dict[tuple[int, int], int] = {}
            for axis, parts, group, k in reach[name]:
                gone[axis, parts] = gone.get((axis, parts), 0) + removed.get(group, 0) * k
            for (axis, parts), entries in gone.items():
                shape[axis] -= entries // parts
            size = math.prod(shape)
            parameters += size if use.parameter else 0
            macs += size * use.positions
        return parameters, macs

    return count


def _matching(groups: ChannelGroups, glob: str) -> list[ChannelGroup]:
    """Groups with a layer that a name or glob means. raises SparsityError when there is none."""
    wanted = glob.removeprefix("module.")
    layers = {
        group.name: {
            group.name,
            *(layer_of(member.tensor) for member in group.members if member.role in ("producer", "depthwise")),
        }
        for group in groups.groups
    }
    found = [g for g in groups.groups if any(fnmatchcase(layer, wanted) for layer in layers[g.name])]
    if not found:
        raise SparsityError(unknown("layer or glob", glob, {name for names in layers.values() for name in names}))
    return found


def _check(target: float, base: str, scope: str, round_to: int, min_channels: int | None) -> None:
    if not 0.0 <= target < 1.0:
        raise SparsityError(f"the fraction to remove must be from 0 to below 1, not {target}.")
    if base not in get_args(Base):
        raise SparsityError(unknown("base", base, get_args(Base)))
    if scope not in get_args(Scope):
        raise SparsityError(unknown("scope", scope, get_args(Scope)))
    for name, count in (("round_to", round_to), ("min_channels", 1 if min_channels is None else min_channels)):
        if count < 1:
            raise SparsityError(f"{name} must be at least 1, not {count}.")
