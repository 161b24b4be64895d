"""Gram matrices of many layers from one stream of images, in bounded memory, going on where a killed process stopped.

Layers are taken in the order in which they run, as many at a time as fit into memory; each such pass runs the images
through the network up to the last of its layers. A finished Gram is one file under the hash of the network, the images
and the settings; the sums of a long pass are saved now and then, and a pass that is taken up again ends bit for bit as
it would have.

Of each batch at most `limit` columns are drawn, from a generator of their own for every (layer, batch), so that the
result does not depend on how layers are dealt out to passes; they stand for all columns of the batch.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateur.cache import Cache, key_of
from secateur.errors import PosttrainingError
from secateur.posttraining.gram import Gram, GramSum
from secateur.posttraining.stored_grams import StoredGrams, arrays_of
from secateur.posttraining.subject import Subject
from secateur.progress import say, track

Batches = Callable[[], Iterable[Tensor]]

LIMIT = 4096
MEMORY = 2 << 30
# The sums of a pass are saved that often, and never so often that it takes more than a tenth of the time.
SAVE_SECONDS = 60.0
# Inputs of the dense network that are held at once. A constant: which positions are drawn depends on it.
DENSE_BYTES = 512 << 20
_VERSION = 2


def gather_grams(
    subject: Subject,
    batches: Batches,
    names: Iterable[str],
    *,
    limit: int | None = LIMIT,
    memory: int = MEMORY,
    folder: Path | None = None,
    dense: Subject | None = None,
    seed: int = 0,
    save_seconds: float = SAVE_SECONDS,
    images_digest: str | None = None,
) -> Mapping[str, Gram]:
    """Layer name -> Gram matrix of what the layer gets.

    batches    gives the same prepared images each time that it is called
    names      layers; those that no image reaches are missing in the result, which is said
    limit      columns of each batch that are drawn and stand for it, None for all of them
    memory     bytes that all Gram matrices being worked on may take
    folder     where finished ones are kept, and read from when they are asked for; without one they stay in memory
    dense      the dense network: its inputs of the same layers give `Gram.cross`, for the target correction
    seed       of the draw of columns
    save_seconds    between two savings of a pass that is not finished
    images_digest   stands for the images where that is known; None: they are read once more for it
    raises     PosttrainingError  a layer that has no Gram (transposed convolution), one that does not fit into memory,
               inputs that are not finite;  DiskError
    """
    job = _Job(subject, batches, limit, memory, dense, seed, save_seconds, images_digest)
    layers = job.reached(names)
    if folder is None:
        together = job.passes(layers)
        if len(together) > 1:
            raise PosttrainingError(
                f"the Gram matrices of {len(layers)} layers take {job.needed(layers) / 2**30:.1f} GiB, more than the "
                f"{memory / 2**30:.1f} GiB allowed; give a folder to keep them in, or more memory."
            )
        return job.run(together[0], None, "", "Gram matrices") if together else {}
    cache = Cache(folder)
    keys = job.keys(layers)
    missing = {name for name in layers if cache.get(keys[name]) is None}
    together = job.passes(layers)
    for number, part in enumerate(together, 1):
        title = "Gram matrices" + (f", pass {number}/{len(together)}" if len(together) > 1 else "")
        partial = key_of(["sums of a pass", *(keys[name] for name in part)])
        left = [name for name in part if name in missing]
        for name, gram in (job.run(left, cache, partial, title) if left else {}).items():
            cache.put(keys[name], {"layer": name, "columns": gram.columns}, arrays_of(gram))
        cache.path(partial).unlink(missing_ok=True)
    return StoredGrams(cache, keys, {name: subject.weight(name).device for name in layers})


def digest_of_images(batches: Batches) -> str:
    """SHA-256 of all images, in their batches."""
    images = hashlib.sha256()
    for batch in batches():
        images.update(f"{batch.dtype} {tuple(batch.shape)}".encode())
        images.update(batch.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return images.hexdigest()


@dataclass(frozen=True)
class _Job:
    """What all passes have in common."""

    subject: Subject
    batches: Batches
    limit: int | None
    memory: int
    dense: Subject | None
    seed: int
    save_seconds: float
    images_digest: str | None

    def reached(self, names: Iterable[str]) -> list[str]:
        """The layers in the order in which they run, checked."""
        wanted = dict.fromkeys(self.subject.layer(name).name for name in names)
        first = next(iter(self.batches()), None)
        if first is None:
            raise PosttrainingError("Gram matrices need at least one image.")
        for name in wanted:
            if self.subject.geometry(name).kind == "conv_transpose":
                raise PosttrainingError(
                    f"{name}: a transposed convolution has no Gram matrix; leave it dense, or reconstruct it by "
                    "gradient."
                )
        order = self.subject.order(first)
        for name in sorted(wanted.keys() - set(order)):
            say(f"{name}: is not reached by the images, so that nothing is known of its inputs.")
        return [name for name in order if name in wanted]

    def needed(self, names: Sequence[str]) -> int:
        """Bytes while the Gram matrices of these layers are gathered: the sums, and twice the largest beside them."""
        sizes = [self._size(name) for name in names]
        return sum(sizes) + 2 * max(sizes, default=0)

    def _size(self, name: str) -> int:
        layer = self.subject.layer(name)
        width = prod(layer.filter_shape[1:])
        return 8 * layer.groups * width * (width + 1) * (1 if self.dense is None else 2)

    def passes(self, names: Sequence[str]) -> list[list[str]]:
        """Layers in order, as many together as fit. raises PosttrainingError for one that does not fit alone."""
        parts: list[list[str]] = []
        for name in names:
            if self.needed([name]) > self.memory:
                raise PosttrainingError(
                    f"{name}: its Gram matrix takes {self.needed([name]) / 2**30:.1f} GiB to gather, more than the "
                    f"{self.memory / 2**30:.1f} GiB allowed; allow more memory, or leave the layer out."
                )
            if parts and self.needed([*parts[-1], name]) <= self.memory:
                parts[-1].append(name)
            else:
                parts.append([name])
        return parts

    def keys(self, names: Sequence[str]) -> dict[str, str]:
        """Everything that a Gram depends on, as a hash."""
        facts = {
            "what": "gram",
            "version": _VERSION,
            "network": self.subject.digest(),
            "dense": None if self.dense is None else self.dense.digest(),
            "images": self.images_digest or digest_of_images(self.batches),
            "limit": self.limit,
            "seed": self.seed,
        }
        return {name: key_of({**facts, "layer": name}) for name in names}

    def run(self, names: Sequence[str], cache: Cache | None, partial: str, title: str) -> dict[str, Gram]:
        """One pass over the images for these layers."""
        sums = {name: GramSum(self.limit) for name in names}
        done = _resume_(sums, cache, partial, self.subject)
        saved, took = time.monotonic(), 0.0
        stream = self.batches()
        with track(len(stream) if isinstance(stream, Sequence) else None, title) as progress:
            size = None
            for index, images in enumerate(stream):
                if index >= done:
                    size = size or self._images_at_a_time(names, images)
                    for name in names:
                        sums[name].generator = _generator(self.seed, name, index)
                    self._add(sums, images, size)
                progress.advance()
                now = time.monotonic()
                if cache is not None and index >= done and now - saved >= max(self.save_seconds, 9 * took):
                    _save(sums, cache, partial, index + 1)
                    saved = time.monotonic()
                    took = saved - now
        return {name: _result(name, found) for name, found in sums.items()}

    def _add(self, sums: Mapping[str, GramSum], images: Tensor, size: int) -> None:
        """Adds one batch, `size` images at a time where inputs of the dense network have to be kept."""
        geometries = {name: self.subject.geometry(name) for name in sums}
        if self.dense is None:
            adders = {name: _Adder(found, geometries[name]) for name, found in sums.items()}
            self.subject.run(images, adders, stop_early=True)
            return
        for start in range(0, len(images), size):
            part = images[start : start + size]
            if self.limit is not None:
                share = self.limit * (start + len(part)) // len(images) - self.limit * start // len(images)
                for found in sums.values():
                    found.limit = max(1, share)
            seen: dict[str, list[Tensor]] = {name: [] for name in sums}
            self.dense.run(part, {name: _Keeper(kept) for name, kept in seen.items()}, stop_early=True)
            adders = {name: _Adder(found, geometries[name], seen[name]) for name, found in sums.items()}
            self.subject.run(part, adders, stop_early=True)

    def _images_at_a_time(self, names: Iterable[str], images: Tensor) -> int:
        if self.dense is None:
            return len(images)
        each: list[int] = []
        count = {name: lambda inputs: each.append(inputs.numel() * inputs.element_size()) for name in names}
        self.dense.run(images[:1], count, stop_early=True)
        return max(1, DENSE_BYTES // max(1, sum(each)))


class _Adder:
    """Adds what a layer gets to its sums, with what it got in the dense network in the same call."""

    def __init__(self, sums: GramSum, geometry: Any, dense: list[Tensor] | None = None) -> None:
        self._sums, self._geometry, self._dense = sums, geometry, dense

    def __call__(self, inputs: Tensor) -> None:
        if self._dense is None:
            self._sums.add(inputs, self._geometry)
        elif not self._dense:
            raise PosttrainingError("the dense network runs a layer less often than the network itself.")
        else:
            self._sums.add(inputs, self._geometry, self._dense.pop(0).to(inputs.device))


class _Keeper:
    """Copies what a layer gets: the network may go on to change it."""

    def __init__(self, kept: list[Tensor]) -> None:
        self._kept = kept

    def __call__(self, inputs: Tensor) -> None:
        self._kept.append(inputs.clone())


def _generator(seed: int, name: str, index: int) -> torch.Generator:
    """Random positions of one layer in one batch."""
    drawn = hashlib.sha256(f"{seed} {index} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(drawn[:8], "big") >> 1)


def _result(name: str, sums: GramSum) -> Gram:
    try:
        return sums.result()
    except PosttrainingError as error:
        raise PosttrainingError(f"{name}: {error}") from error


def _save(sums: Mapping[str, GramSum], cache: Cache, key: str, batches: int) -> None:
    arrays = {f"{name}/{part}": s.cpu().numpy() for name, found in sums.items() for part, s in found.sums().items()}
    counts = {name: [found.columns, found.stands_for] for name, found in sums.items()}
    cache.put(key, {"batches": batches, "columns": counts}, arrays)


def _resume_(sums: Mapping[str, GramSum], cache: Cache | None, key: str, subject: Subject) -> int:
    """Take up what a killed process saved; the number of batches that are in it."""
    entry = None if cache is None else cache.get(key)
    # A layer of which a finished Gram has gone since is not in the sums of the pass.
    if entry is None or not sums.keys() <= entry.value["columns"].keys():
        return 0
    for name, found in sums.items():
        device = subject.weight(name).device
        parts = {
            part: torch.from_numpy(entry.arrays[f"{name}/{part}"]).to(device)
            for part in ("matrix", "mean", "cross", "dense_mean")
            if f"{name}/{part}" in entry.arrays
        }
        found.resume_(parts, *map(int, entry.value["columns"][name]))
    return int(entry.value["batches"])
