"""A removal plan: which entries of which tensors stay, as plain data.

    kept(tensor, axis) = all entries but those of the units that go, over all groups that reach into the axis

A plan is made of groups and of the units to remove; it is JSON, replays on a fresh network of the same shapes, and
prints as a table.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, get_args

import numpy as np

from secateur.channels.groups import ChannelGroups, IntArray, Role
from secateur.channels.plan_fields import number, pair, text, whole
from secateur.errors import ArtifactError
from secateur.graph.table import percent, text_table

ZEROS = "zeros"  # the base of a plan that removes what is zero already


@dataclass(frozen=True)
class Cut:
    """What stays of one axis.

    length    entries before; of the input axis of a grouped convolution all input channels
    kept      indices that stay, ascending, as many in each of `groups` equal parts
    """

    tensor: str
    axis: int
    role: Role
    length: int
    kept: tuple[int, ...]
    groups: int = 1

    @property
    def removed(self) -> IntArray:
        """Indices that go."""
        return np.setdiff1d(np.arange(self.length), np.array(self.kept, dtype=np.int64))


@dataclass(frozen=True)
class PlannedGroup:
    """One group in the plan.

    layers              that make its channels
    before, after       units: channels, several as one where they only go together
    parameters, macs    (before, after) of those of the layers that no earlier group has named
    reason              why no channel goes, or what is to be said of those that go
    """

    name: str
    layers: tuple[str, ...]
    before: int
    after: int
    parameters: tuple[int, int]
    macs: tuple[int, int]
    reason: str | None = None


@dataclass(frozen=True)
class RemovalPlan:
    """Everything that removing channels needs to know.

    target     fraction to remove of `base`: channels, macs or parameters
    criterion  how the channels were chosen
    shapes     shape after the removal of every tensor that is cut
    bias       name of a bias -> what is added to it before the cuts: the constants that removed channels held; a
               layer without a bias gains one
    """

    target: float
    base: str
    criterion: str
    cuts: tuple[Cut, ...]
    groups: tuple[PlannedGroup, ...]
    shapes: Mapping[str, tuple[int, ...]]
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    bias: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])

    @property
    def removed(self) -> int:
        """Units that go: channels, several as one where they only go together."""
        return sum(group.before - group.after for group in self.groups)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        value = asdict(self)
        value["cuts"] = [asdict(cut) | {"kept": list(cut.kept)} for cut in self.cuts]
        value["groups"] = [
            asdict(group) | {key: list(getattr(group, key)) for key in ("layers", "parameters", "macs")}
            for group in self.groups
        ]
        value["bias"] = {name: list(values) for name, values in self.bias.items()}
        value["shapes"] = {name: list(shape) for name, shape in self.shapes.items()}
        return value

    @classmethod
    def from_dict(cls, value: Any) -> "RemovalPlan":
        """The plan that `to_dict` wrote. raises ArtifactError when it is something else, or cannot be right."""
        try:
            plan = cls(
                target=float(value["target"]),
                base=text(value["base"]),
                criterion=text(value["criterion"]),
                cuts=tuple(_cut(cut) for cut in value["cuts"]),
                groups=tuple(_group(group) for group in value["groups"]),
                shapes={text(name): tuple(whole(n) for n in shape) for name, shape in value["shapes"].items()},
                parameters_before=whole(value["parameters_before"]),
                parameters_after=whole(value["parameters_after"]),
                macs_before=whole(value["macs_before"]),
                macs_after=whole(value["macs_after"]),
                bias={text(name): tuple(number(n) for n in values) for name, values in value["bias"].items()},
            )
            number(plan.target)
            axes = [(cut.tensor, cut.axis) for cut in plan.cuts]
            if len(set(axes)) < len(axes):
                raise ValueError("an axis is cut twice")
            if {cut.tensor for cut in plan.cuts} != set(plan.shapes):
                raise ValueError("shapes and cuts name different tensors")
            for cut in plan.cuts:
                if cut.axis >= len(plan.shapes[cut.tensor]):
                    raise ValueError(f"{cut.tensor} has no axis {cut.axis}")
                if plan.shapes[cut.tensor][cut.axis] * cut.groups != len(cut.kept):
                    raise ValueError(f"the shape of {cut.tensor} is not what its cuts leave")
            return plan
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ArtifactError(f"this is not a removal plan: {type(error).__name__} {error}.") from error

    def __str__(self) -> str:
        headers = ("group", "layers", "remark", "before", "after", "removed %", "parameters", "MACs")
        rows: dict[object, PlannedGroup] = {}
        for group in self.groups:
            # A layer whose frozen channels fall into many groups gets one row.
            key = (group.layers or group.name.partition(":")[0], group.reason) if group.reason else group.name
            rows[key] = _together(rows[key], group) if key in rows else group
        lines = [
            (
                group.name,
                ", ".join(group.layers[:2]) + (f" and {len(group.layers) - 2} more" if len(group.layers) > 2 else ""),
                group.reason or "",
                str(group.before),
                str(group.after),
                percent(group.before - group.after, group.before),
                f"{group.parameters[0]:,} > {group.parameters[1]:,}",
                f"{group.macs[0]:,} > {group.macs[1]:,}",
            )
            for group in rows.values()
        ]
        before, after = sum(group.before for group in self.groups), sum(group.after for group in self.groups)
        lines.append(
            (
                "total",
                "",
                "all weights and parameters of the network",
                str(before),
                str(after),
                percent(before - after, before),
                f"{self.parameters_before:,} > {self.parameters_after:,}",
                f"{self.macs_before:,} > {self.macs_after:,}",
            )
        )
        gone = self.macs_before - self.macs_after, self.parameters_before - self.parameters_after
        asked = f"{percent(self.target, 1.0)} % of the {self.base}, by {self.criterion}"
        return (
            f"{text_table(headers, lines, left=3, total=True)}\n"
            f"asked for: {asked if self.base != ZEROS else 'every channel that is zero'}; "
            f"removed: {percent(gone[0], self.macs_before)} % of the MACs, "
            f"{percent(gone[1], self.parameters_before)} % of the parameters"
        )


def _together(a: PlannedGroup, b: PlannedGroup) -> PlannedGroup:
    return PlannedGroup(
        a.name,
        a.layers,
        a.before + b.before,
        a.after + b.after,
        (a.parameters[0] + b.parameters[0], a.parameters[1] + b.parameters[1]),
        (a.macs[0] + b.macs[0], a.macs[1] + b.macs[1]),
        a.reason,
    )


def make_plan(
    groups: ChannelGroups,
    removed: Mapping[str, IntArray],
    *,
    target: float,
    base: str,
    criterion: str,
    reasons: Mapping[str, str] | None = None,
    bias: Mapping[str, tuple[float, ...]] | None = None,
) -> RemovalPlan:
    """The plan that removes the given units.

    removed    name of a group -> its units that go
    reasons    name of a group -> why none of it goes, beside those that are frozen
    """
    gone: dict[tuple[str, int], list[IntArray]] = defaultdict(list)
    heads: dict[tuple[str, int], Cut] = {}
    for group in groups.groups:
        units = removed.get(group.name)
        if units is None or not len(units):
            continue
        for member in group.members:
            key = (member.tensor, member.axis)
            gone[key].append(member.positions[units].ravel())
            heads[key] = Cut(*key, member.role, member.length, (), member.groups)
    cuts = tuple(
        Cut(
            head.tensor,
            head.axis,
            head.role,
            head.length,
            tuple(np.setdiff1d(np.arange(head.length), np.concatenate(gone[key])).tolist()),
            head.groups,
        )
        for key, head in heads.items()
    )
    shapes = {cut.tensor: list(groups.tensors[cut.tensor].shape) for cut in cuts}
    for cut in cuts:
        shapes[cut.tensor][cut.axis] = len(cut.kept) // cut.groups
    counted: set[str] = set()
    planned: list[PlannedGroup] = []
    for group in groups.groups:
        own = {member.tensor for member in group.members if member.role in ("producer", "depthwise")} - counted
        counted |= own
        (p0, m0), (p1, m1) = _counts(groups, {}, own), _counts(groups, shapes, own)
        after = group.size - len(removed.get(group.name, ()))
        reason = group.frozen or (reasons or {}).get(group.name)
        planned.append(PlannedGroup(group.name, group.producers, group.size, after, (p0, p1), (m0, m1), reason))
    parameters, macs = _counts(groups, shapes)
    for name, values in (bias or {}).items():
        if name not in groups.tensors:
            kept = shapes.get(f"{name.removesuffix('.bias')}.weight", [len(values)])
            parameters += kept[0]
    return RemovalPlan(
        target=target,
        base=base,
        criterion=criterion,
        cuts=cuts,
        groups=tuple(planned),
        shapes={name: tuple(shape) for name, shape in shapes.items()},
        parameters_before=groups.parameters,
        parameters_after=parameters,
        macs_before=groups.macs,
        macs_after=macs,
        bias=dict(bias or {}),
    )


def _counts(
    groups: ChannelGroups, shapes: Mapping[str, Sequence[int]], names: Iterable[str] | None = None
) -> tuple[int, int]:
    """Parameters and MACs where some tensors have other shapes."""
    chosen = {name: groups.tensors[name] for name in (groups.tensors if names is None else names)}
    sizes = {name: math.prod(shapes.get(name, use.shape)) for name, use in chosen.items()}
    parameters = sum(sizes[name] for name, use in chosen.items() if use.parameter)
    return parameters, sum(sizes[name] * use.positions for name, use in chosen.items())


def _cut(value: Any) -> Cut:
    kept = tuple(whole(index) for index in value["kept"])
    cut = Cut(text(value["tensor"]), whole(value["axis"]), value["role"], whole(value["length"]), kept)
    groups = whole(value["groups"])
    cut = Cut(cut.tensor, cut.axis, cut.role, cut.length, kept, groups)
    if cut.role not in get_args(Role):
        raise ValueError(f"a tensor has no role {cut.role!r}")
    if not kept or kept[-1] >= cut.length or any(a >= b for a, b in pairwise(kept)):
        raise ValueError(f"the kept entries of {cut.tensor} must ascend within 0..{cut.length - 1}")
    if groups < 1 or cut.length % groups or len(kept) % groups:
        raise ValueError(f"{cut.tensor} cannot be cut in {groups} groups")
    each = cut.length // groups
    for part in range(groups):
        if sum(part * each <= index < (part + 1) * each for index in kept) * groups != len(kept):
            raise ValueError(f"the groups of {cut.tensor} must keep equal numbers of channels")
    return cut


def _group(value: Any) -> PlannedGroup:
    reason = value["reason"]
    group = PlannedGroup(
        text(value["name"]),
        tuple(text(layer) for layer in value["layers"]),
        whole(value["before"]),
        whole(value["after"]),
        pair(value["parameters"]),
        pair(value["macs"]),
        None if reason is None else text(reason),
    )
    if not 0 < group.after <= group.before:
        raise ValueError(f"{group.name} cannot go from {group.before} to {group.after} channels")
    return group
