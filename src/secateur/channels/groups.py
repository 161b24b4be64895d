"""Dependency groups as data: which entries of which tensors go or stay together.

A *unit* is the smallest thing that can be removed: one channel everywhere it appears. A *group* is a set of units
that appear in the same tensors, such as the 64 channels of a residual stage. Plain arrays; no framework.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from secateur.errors import SparsityError
from secateur.graph.table import text_table
from secateur.registry import unknown

IntArray = NDArray[np.int64]
Role = Literal["producer", "consumer", "norm", "depthwise", "parameter"]


@dataclass(frozen=True)
class TensorUse:
    """One tensor of the network.

    positions    how often each of its weights is applied to one image; MACs = weights x positions
    parameter    whether it counts as a parameter (running means do not)
    """

    shape: tuple[int, ...]
    positions: int = 0
    parameter: bool = True


@dataclass(frozen=True, eq=False)
class Member:
    """One axis of one tensor, as far as a group reaches into it.

    positions   (units, k) int64: the entries of the axis that belong to each unit; k > 1 behind a flatten
    length      entries of the axis; for the input axis of a grouped convolution all input channels, groups x
                stored size
    groups      of the convolution whose input axis this is; entry c stands in group c // (length / groups)
    """

    tensor: str
    axis: int
    role: Role
    positions: IntArray
    length: int
    groups: int = 1


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Units that appear in the same axes of the same tensors.

    name        the layer that makes them first; `layer:2` is the second group of a layer, `into layer` has no maker
    segment     (size,) int64: the segment of each unit; as many must stay in one segment as in every other
    frozen      why none may go, or None
    """

    name: str
    size: int
    members: tuple[Member, ...]
    segment: IntArray
    segments: int = 1
    frozen: str | None = None

    @property
    def producers(self) -> tuple[str, ...]:
        """Layers that make these channels: convolutions and linear layers, depthwise ones not among them."""
        return self._layers("producer")

    @property
    def consumers(self) -> tuple[str, ...]:
        """Layers that read these channels."""
        return self._layers("consumer")

    @property
    def channels(self) -> int:
        """Channels of the layer that makes them first: more than units where several only go together."""
        made = [member for role in ("producer", "depthwise") for member in self.members if member.role == role]
        return made[0].positions.size if made else self.size

    def _layers(self, role: Role) -> tuple[str, ...]:
        layers = [layer_of(member.tensor) for member in self.members if member.role == role]
        return tuple(dict.fromkeys(layers))


@dataclass(frozen=True, eq=False)
class ChannelGroups:
    """All groups of a network, in the order in which it computes them, and its tensors."""

    groups: tuple[ChannelGroup, ...]
    tensors: Mapping[str, TensorUse] = field(default_factory=dict[str, TensorUse])

    def __getitem__(self, name: str) -> ChannelGroup:
        """The group of that name, or the first one with a layer of that name among its producers."""
        for group in self.groups:
            if group.name == name:
                return group
        for group in self.groups:
            if name in group.producers:
                return group
        raise SparsityError(unknown("channel group", name, [group.name for group in self.groups]))

    @property
    def free(self) -> tuple[ChannelGroup, ...]:
        """Groups of which channels may go."""
        return tuple(group for group in self.groups if group.frozen is None)

    @property
    def parameters(self) -> int:
        return sum(math.prod(use.shape) for use in self.tensors.values() if use.parameter)

    @property
    def macs(self) -> int:
        """Multiplications of weights for one image."""
        return sum(math.prod(use.shape) * use.positions for use in self.tensors.values())

    def __str__(self) -> str:
        headers = ("group", "made by", "read by", "remark", "channels")
        rows: dict[object, tuple[str, str, str, str, int]] = {}
        for group in self.groups:
            # What the frozen channels of a layer are read by is of no use to anybody: one row for all of them.
            key = (group.producers or group.name.partition(":")[0], group.frozen) if group.frozen else group.name
            name, made, read, remark, size = rows.get(key, (group.name, "", "", "", 0))
            made, read = made or _listed(group.producers), read or _listed(group.consumers)
            rows[key] = (name, made, read, remark or _remark(group), size + group.channels)
        table = text_table(headers, [(*row[:4], str(row[4])) for row in rows.values()], left=4)
        able = [group for group in self.free if group.size > group.segments]
        removable = sum(group.channels for group in able)
        total = sum(group.channels for group in self.groups)
        return f"{table}\n{removable} of {total} channels may go, in {len(able)} of {len(self.groups)} groups"


def layer_of(tensor: str) -> str:
    """The layer that a tensor belongs to: `layer1.0.conv1.weight` -> `layer1.0.conv1`."""
    return tensor.rpartition(".")[0] or tensor


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _remark(group: ChannelGroup) -> str:
    if group.frozen:
        return f"frozen: {group.frozen}"
    if group.size == 1:
        return "one unit: nothing can go"
    return f"equal numbers in {group.segments} segments" if group.segments > 1 else ""
