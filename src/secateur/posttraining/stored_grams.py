"""Gram matrices on disk, one file each, under the hash of all that they depend on."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from secateur.cache import Cache
from secateur.errors import ArtifactError
from secateur.posttraining.gram import Gram


class StoredGrams(Mapping[str, Gram]):
    """Gram matrices on disk, each read when it is asked for and not kept."""

    def __init__(self, cache: Cache, keys: Mapping[str, str], devices: Mapping[str, torch.device]) -> None:
        self._cache, self._keys, self._devices = cache, keys, devices

    def __getitem__(self, name: str) -> Gram:
        entry = self._cache.get(self._keys[name])
        if entry is None:
            raise ArtifactError(
                f"{self._cache.folder}: the Gram matrix of {name} has gone or is damaged; gather again."
            )
        tensors = {part: torch.from_numpy(array).to(self._devices[name]) for part, array in entry.arrays.items()}
        return Gram(columns=int(entry.value["columns"]), **tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, name: str) -> str:
        """The hash of all that this Gram matrix depends on; what is made from it can be kept under it."""
        return self._keys[name]

    def with_those_of(self, other: "StoredGrams", order: Iterable[str]) -> "StoredGrams":
        """Both in the order given, names that neither has left out; they are kept in one folder."""
        keys, devices = {**self._keys, **other._keys}, {**self._devices, **other._devices}
        return StoredGrams(self._cache, {name: keys[name] for name in order if name in keys}, devices)


def joined(parts: Sequence[Mapping[str, Gram]], order: Iterable[str]) -> Mapping[str, Gram]:
    """Several gatherings into one folder, or all of them into none, as one; names in the order given."""
    order, stored = list(order), [part for part in parts if isinstance(part, StoredGrams)]
    if not stored:
        return {name: part[name] for name in order for part in parts if name in part}
    return functools.reduce(lambda one, other: one.with_those_of(other, order), stored)


def arrays_of(gram: Gram) -> dict[str, Any]:
    """What is kept of one."""
    parts = {"matrix": gram.matrix, "mean": gram.mean, "cross": gram.cross, "dense_mean": gram.dense_mean}
    return {part: tensor.cpu().numpy() for part, tensor in parts.items() if tensor is not None}
