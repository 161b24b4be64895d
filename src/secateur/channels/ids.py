"""Which channel every number of a network belongs to: our own design, without a framework.

    ids(value)      an int64 array of the value's shape (batch 1); its entries are atoms, -1 = of no channel
    union           an element-wise operator makes one channel of those that meet in it
    member          entry i of an axis of a tensor belongs to atoms[i], as filter i of a convolution does
    a channel       a class of atoms under union-find; channels with the same members form one group

Moving data needs no rule: the framework's own operator (permute, concat, shuffle, flatten) is run on the ids.
A number of no channel keeps its place: what meets it along an axis of channels is frozen.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.channels.groups import ChannelGroup, ChannelGroups, IntArray, Member, Role, TensorUse, layer_of

_ROLE_ORDER: tuple[Role, ...] = ("producer", "depthwise", "parameter", "norm", "consumer")


@dataclass
class Axis:
    """What is known of one axis of one tensor: the atom of each of its entries, and as in groups.Member."""

    atoms: IntArray
    role: Role
    groups: int


class ChannelIds:
    """Collects what operators say about channels; `groups` tells what follows from it."""

    def __init__(self) -> None:
        self._parent = np.empty(1024, dtype=np.int64)
        self._count = 0
        self._reasons: dict[int, str] = {}
        self._axes: dict[tuple[str, int], Axis] = {}
        self._balanced: list[IntArray] = []
        self._tensors: dict[str, TensorUse] = {}

    # -------------------------------------------------------------------------------------------------- atoms

    def new(self, n: int) -> IntArray:
        """`n` atoms that belong to nothing yet."""
        while self._count + n > len(self._parent):
            self._parent = np.concatenate([self._parent, np.empty_like(self._parent)])
        atoms = np.arange(self._count, self._count + n, dtype=np.int64)
        self._parent[self._count : self._count + n] = atoms
        self._count += n
        return atoms

    def roots(self, ids: IntArray) -> IntArray:
        """The representative of the class of every atom; -1 stays -1."""
        found = np.where(ids >= 0, ids, 0)
        while self._count:
            above = self._parent[found]
            if np.array_equal(above, found):
                break
            found = above
        return np.where(ids >= 0, found, -1)

    def union(self, a: IntArray, b: IntArray, reason: str = "meets a value of fixed size") -> IntArray:
        """Ids of an element-wise result of two values, broadcast as numpy does.

        Where only one side has a channel, the result has it; where the other side has entries of its own along
        an axis of channels, that channel is frozen for `reason`: the other side could not be cut with it. A single
        channel that meets all those of the other side, as a gate does, stays, and the others are free.
        """
        for one, many in ((a, b), (b, a)):
            if self._is_gate(one, many):
                self.freeze(one, "one channel that meets all channels of another value")
                shape = np.broadcast_shapes(a.shape, b.shape)
                own, rest = np.broadcast_to(many, shape), np.broadcast_to(one, shape)
                return own if (many >= 0).all() else np.where(own >= 0, own, rest)
        shape = np.broadcast_shapes(a.shape, b.shape)
        if not shape:
            shape = (1,)
        whole_a, whole_b = np.broadcast_to(a, shape), np.broadcast_to(b, shape)
        short_a, short_b = _shorten(whole_a, whole_b)
        self._freeze_against(short_a, short_b, b.shape, reason)
        self._freeze_against(short_b, short_a, a.shape, reason)
        both = (short_a >= 0) & (short_b >= 0)
        self._unite(short_a[both], short_b[both])
        return np.broadcast_to(np.where(short_a >= 0, short_a, short_b), shape)

    def freeze(self, ids: IntArray, reason: str) -> None:
        """None of these channels may go; the first reason given for a channel is the one that is told."""
        for root in np.unique(self.roots(_shorten(ids)[0])):
            if root >= 0:
                self._reasons.setdefault(int(root), reason)

    def varies(self, ids: IntArray, axis: int) -> bool:
        """Whether entries along an axis belong to different channels: whether it is an axis of channels."""
        if ids.shape[axis] < 2:
            return False
        roots = self.roots(_shorten(ids)[0])
        return bool((roots != np.take(roots, [0], axis=axis)).any())

    def along(self, ids: IntArray, axis: int, reason: str = "meets a value of fixed size") -> IntArray:
        """(n,) one atom per index of an axis; channels that differ along the other axes become one.

        Those that stand beside a number of no channel are frozen for `reason`.
        """
        short = _shorten(ids, keep=axis)[0]
        rows = np.moveaxis(short, axis, 0).reshape(short.shape[axis], -1)
        first = rows.max(axis=1)
        mixed = (rows < 0).any(axis=1) & (first >= 0)
        if mixed.any():
            self.freeze(rows[mixed], reason)
        whole = np.broadcast_to(first[:, None], rows.shape)
        both = rows >= 0
        self._unite(whole[both], rows[both])
        return first

    # ------------------------------------------------------------------------------------------------ tensors

    def tensor(self, name: str, shape: Sequence[int], positions: int = 0, parameter: bool = True) -> None:
        """Declare a tensor. Said again, its positions add up: a layer that is applied twice computes twice."""
        known = self._tensors.get(name, TensorUse(tuple(shape), 0, parameter))
        self._tensors[name] = replace(known, positions=known.positions + positions)

    def produced(self, tensor: str, axis: int, n: int, role: Role = "producer") -> IntArray:
        """(n,) atoms of an axis that makes channels: the same ones each time the layer is applied."""
        if (tensor, axis) not in self._axes:
            self._axes[tensor, axis] = Axis(self.new(n), role, 1)
        return self._axes[tensor, axis].atoms

    def member(self, tensor: str, axis: int, atoms: IntArray, role: Role, groups: int = 1) -> None:
        """Entry i of an axis belongs to the channel of atoms[i]; several entries may belong to one channel.

        groups    > 1 for the input axis of a grouped convolution, with one atom for each of its input channels
        """
        known = self._axes.get((tensor, axis))
        if known is None:
            self._axes[tensor, axis] = Axis(atoms.copy(), role, groups)
        elif len(known.atoms) != len(atoms):
            for ids in (known.atoms, atoms):
                self.freeze(ids, f"{tensor} is used with {len(known.atoms)} and with {len(atoms)} channels")
        else:
            known.atoms = self.union(known.atoms, atoms, f"{tensor} also meets a value of fixed size")

    def balanced(self, segments: Iterable[IntArray]) -> None:
        """As many channels must stay in each of these segments, of one length, as in every other."""
        self._balanced.append(np.stack(list(segments)))

    # ------------------------------------------------------------------------------------------------- asking

    def classes(self) -> IntArray:
        """(atoms,) the representative of the class of every atom."""
        return self.roots(np.arange(self._count, dtype=np.int64))

    def axes(self) -> dict[tuple[str, int], Axis]:
        """(tensor, axis) -> what is known of it."""
        return dict(self._axes)

    def frozen(self) -> NDArray[np.bool_]:
        """(atoms,) whether the channel of an atom stays."""
        flags = np.zeros(self._count, dtype=np.bool_)
        flags[[self._find(atom) for atom in self._reasons]] = True
        return flags[self.classes()]

    def reason(self, atom: int) -> str | None:
        """Why the channel of an atom stays, or None."""
        return self._reasons.get(self._find(atom))

    # ------------------------------------------------------------------------------------------------- result

    def groups(self) -> ChannelGroups:
        """Channels with the same members, as one group each."""
        while True:
            units = self._units()
            segments = self._segments(units)
            if segments is not None:
                return ChannelGroups(self._named(units, segments), dict(self._tensors))

    def _units(self) -> "_Units":
        keys: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
        for index, axis in enumerate(self._axes.values()):
            places: dict[int, list[int]] = defaultdict(list)
            for place, root in enumerate(self.roots(axis.atoms).tolist()):
                if root >= 0:
                    places[root].append(place)
            for root, found in places.items():
                keys[root].append((index, found))
        sets: dict[Any, list[int]] = defaultdict(list)
        for root, members in keys.items():
            sets[tuple((index, len(found)) for index, found in members), self._reasons.get(root)].append(root)
        group_of = {root: number for number, roots in enumerate(sets.values()) for root in roots}
        return _Units(keys, list(sets.values()), [reason for _, reason in sets], group_of)

    def _segments(self, units: "_Units") -> list[IntArray] | None:
        """The segment of every unit of every group; None when channels had to be united instead, and all is new."""
        labels: list[list[tuple[int, ...]]] = [[() for _ in roots] for roots in units.sets]
        number = {root: i for roots in units.sets for i, root in enumerate(roots)}
        for segments in self._balanced:
            roots = self.roots(segments)
            known = [int(root) for root in np.unique(roots) if root >= 0]
            # Settled is a place at which all segments have one channel, or only channels that stay.
            stays = np.isin(roots, [root for root in known if root in self._reasons]) | (roots < 0)
            if ((roots == roots[:1]).all(axis=0) | stays.all(axis=0)).all():
                continue
            group = {units.group_of.get(root, -1) for root in known}
            at = group.pop()
            trial = list(labels[at]) if not group and at >= 0 else []
            if roots.size == len(known) == len(trial):
                for part, row in enumerate(roots.tolist()):
                    for root in row:
                        trial[number[root]] += (part,)
                if _even(trial):
                    labels[at] = trial
                    continue
            # Not one group, or segments that cross: what stands at one place of every segment goes together.
            for row in segments[1:]:
                self.union(segments[0], row)
            self.freeze(segments[:, (roots < 0).any(axis=0)], "must be cut as often as channels of fixed size")
            return None
        return [_numbered(found) for found in labels]

    def _named(self, units: "_Units", segments: list[IntArray]) -> tuple[ChannelGroup, ...]:
        keys = list(self._axes)
        found: list[ChannelGroup] = []
        names: dict[str, int] = {}
        for roots, reason, segment in zip(units.sets, units.frozen, segments, strict=True):
            members: list[Member] = []
            for place, (index, _) in enumerate(units.members[roots[0]]):
                (tensor, axis), known = keys[index], self._axes[keys[index]]
                positions = np.array([units.members[root][place][1] for root in roots], dtype=np.int64)
                members.append(Member(tensor, axis, known.role, positions, len(known.atoms), known.groups))
            makers = sorted(members, key=lambda member: _ROLE_ORDER.index(member.role))
            name = layer_of(makers[0].tensor)
            if makers[0].role == "consumer":
                name = f"into {name}"
            names[name] = names.get(name, 0) + 1
            if names[name] > 1:
                name = f"{name}:{names[name]}"
            found.append(ChannelGroup(name, len(roots), tuple(members), segment, int(segment.max()) + 1, reason))
        return tuple(found)

    # ------------------------------------------------------------------------------------------------- inside

    def _unite(self, a: IntArray, b: IntArray) -> None:
        a, b = self.roots(a), self.roots(b)
        apart = a != b
        if not apart.any():
            return
        for left, right in np.unique(np.stack([a[apart], b[apart]], axis=1), axis=0).tolist():
            x, y = self._find(left), self._find(right)
            if x == y:
                continue
            low, high = min(x, y), max(x, y)
            self._parent[high] = low
            reason = self._reasons.pop(high, None)
            if reason is not None:
                self._reasons.setdefault(low, reason)

    def _find(self, atom: int) -> int:
        while self._parent[atom] != atom:
            atom = int(self._parent[atom])
        return atom

    def _is_gate(self, one: IntArray, many: IntArray) -> bool:
        """Whether a value of one channel is repeated by its shape, along an axis of channels of the other value."""
        shape = (1,) * (many.ndim - one.ndim) + one.shape
        if not any(side == 1 and self.varies(many, axis) for axis, side in enumerate(shape[len(shape) - many.ndim :])):
            return False
        roots = np.unique(self.roots(_shorten(one)[0]))
        return len(roots) == 1 and roots[0] >= 0

    def _freeze_against(self, ids: IntArray, other: IntArray, shape: tuple[int, ...], reason: str) -> None:
        fixed = (other < 0) & (ids >= 0)
        if not fixed.any():
            return
        leading = ids.ndim - len(shape)
        if any(shape[axis - leading] > 1 and self.varies(ids, axis) for axis in range(leading, ids.ndim)):
            self.freeze(ids[fixed], reason)


@dataclass(frozen=True)
class _Units:
    """members: root -> (number of the axis, its entries) of each; sets: the roots of each group."""

    members: dict[int, list[tuple[int, list[int]]]]
    sets: list[list[int]]
    frozen: list[str | None]
    group_of: dict[int, int]


def _shorten(*arrays: IntArray, keep: int | None = None) -> list[NDArray[np.int64]]:
    """The arrays without axes along which all of them repeat one entry by stride 0, one entry left of each."""
    ndim = arrays[0].ndim
    index = tuple(
        slice(0, 1)
        if axis != keep and all(array.strides[axis] == 0 or array.shape[axis] == 1 for array in arrays)
        else slice(None)
        for axis in range(ndim)
    )
    return [array[index] for array in arrays]


def _even(labels: list[tuple[int, ...]]) -> bool:
    """Whether the cells of all partitions together have one size, and every segment as many cells."""
    cells: dict[tuple[int, ...], int] = defaultdict(int)
    for label in labels:
        cells[label] += 1
    if len(set(cells.values())) > 1:
        return False
    for partition in range(len(labels[0])):
        counts: dict[int, int] = defaultdict(int)
        for cell in cells:
            counts[cell[partition]] += 1
        if len(set(counts.values())) > 1:
            return False
    return True


def _numbered(labels: list[tuple[int, ...]]) -> IntArray:
    numbers = {label: number for number, label in enumerate(sorted(set(labels)))}
    return np.array([numbers[label] for label in labels], dtype=np.int64)
