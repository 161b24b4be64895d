"""Batches of prepared images, the same for the same (seed, epoch), however many processes load them.

The epoch's order is one permutation. Step k takes the next batch_size * world_size images of it and deals
them out to the ranks, so that the union over the ranks is what one process would have seen. Decoded pixels of
small data sets stay in memory; larger ones are decoded by torch's DataLoader.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from secateur.errors import DataError
from secateur.zoo.augment import ORDER, CropAndFlip, ResizedCropAndFlip, is_small, stream
from secateur.zoo.image_data import ImageData
from secateur.zoo.pixels import decoded, fit, item, normalise
from secateur.zoo.preprocessing import Preprocessing


@dataclass(frozen=True)
class Loader:
    """One epoch of (float32 images (batch, channels, height, width), int64 labels). See `loader`."""

    data: ImageData
    split: str
    preprocessing: Preprocessing
    batch_size: int
    augment: bool = False
    seed: int = 0
    epoch: int = 0
    skip_batches: int = 0
    rank: int = 0
    world_size: int = 1
    workers: int = 0
    limit: int | None = None
    indices: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise DataError(f"batch_size must be at least 1, it is {self.batch_size}.")
        self.data.split(self.split)

    def __len__(self) -> int:
        return len(self._batches())

    @property
    def images(self) -> int:
        """Images that this rank will see."""
        return sum(map(len, self._batches()))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = self._batches()
        resized = self.augment and not is_small(self.preprocessing)
        kept = None if resized else decoded(self.data, self.split, self.preprocessing)
        total = len(self.data.split(self.split))
        if resized:
            vary = ResizedCropAndFlip(total, self.seed, self.epoch, self.data.flip, self.preprocessing)
            source = _decode(_Reader(self.data, self.split, self.preprocessing, vary), batches, self.workers)
        elif kept is None:
            source = _decode(_Reader(self.data, self.split, self.preprocessing, None), batches, self.workers)
        else:
            source = (kept.take(self.data, self.split, batch, self.preprocessing) for batch in batches)
        shift = self.augment and not resized
        crops = CropAndFlip(total, self.seed, self.epoch, self.data.flip) if shift else None
        for batch, (pixels, labels) in zip(batches, source, strict=True):
            if crops:
                pixels = crops(pixels, batch)
            yield normalise(pixels, self.preprocessing), torch.from_numpy(labels)

    def _batches(self) -> list[np.ndarray]:
        """Indices of the images of every batch of this rank."""
        listed = self.indices is not None
        order = np.asarray(self.indices) if listed else spread(len(self.data.split(self.split)), self.limit)
        if self.split == "train" and not listed:
            order = stream(self.seed, self.epoch, ORDER).permutation(order)
            # Ranks exchange gradients after every step, so that each needs the same number of them.
            order = order[: len(order) - len(order) % self.world_size]
        mine = order[self.rank :: self.world_size]
        batches = [mine[start : start + self.batch_size] for start in range(0, len(mine), self.batch_size)]
        # Batch norm has no variance over a single image that is left over.
        if self.split == "train" and not listed and len(batches) > 1 and len(batches[-1]) == 1 < self.batch_size:
            batches.pop()
        return batches[self.skip_batches :]


def loader(
    data: ImageData,
    split: str,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    augment: bool = False,
    seed: int = 0,
    epoch: int = 0,
    skip_batches: int = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    limit: int | None = None,
    indices: Sequence[int] | None = None,
) -> Loader:
    """The batches of one epoch; training images in a new order each epoch, test images in their own.

    batch_size    images per batch and rank
    augment       random crops and mirror images
    skip_batches  resume inside an epoch: leave out this many of its batches
    workers       processes that decode; 0 decodes here. Data kept in memory needs none
    limit         use only so many images, evenly spread over the split (folders are sorted by class)
    indices       use these images, in this order, all of them, whatever the split and the epoch

    raises    DataError  no such split; while iterating, an image that cannot be read
    """
    return Loader(
        data,
        split,
        preprocessing,
        batch_size,
        augment,
        seed,
        epoch,
        skip_batches,
        rank,
        world_size,
        workers,
        limit,
        indices,
    )


def numpy_batches(
    data: ImageData, split: str, preprocessing: Preprocessing, batch_size: int, limit: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same images as numpy arrays: float32 (batch, channels, height, width) and int64 labels."""
    for images, labels in loader(data, split, preprocessing, batch_size=batch_size, limit=limit):
        yield images.numpy(), labels.numpy()


def spread(images: int, limit: int | None) -> np.ndarray:
    """Indices of `limit` of the images, at even distances; of all of them without a limit."""
    if limit is None or limit >= images:
        return np.arange(images)
    if limit < 1:
        raise DataError(f"limit must be at least 1 image, it is {limit}.")
    return np.arange(limit) * images // limit


@dataclass(frozen=True)
class _Reader(Dataset):
    """Decodes whole batches; runs in the worker processes."""

    data: ImageData
    split: str
    preprocessing: Preprocessing
    vary: ResizedCropAndFlip | None

    def __getitem__(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray] | DataError:
        # Raised in a worker, an error arrives with a traceback as its message; returned, it stays a sentence.
        try:
            items = [item(self.data, self.split, int(index)) for index in batch]
        except DataError as error:
            return error
        if self.vary:
            pixels = [self.vary(image, int(index)) for (image, _), index in zip(items, batch, strict=True)]
        else:
            pixels = [fit(image, self.preprocessing) for image, _ in items]
        return np.stack(pixels), np.array([label for _, label in items], np.int64)


def _decode(reader: _Reader, batches: list[np.ndarray], workers: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if not workers:
        found = map(reader.__getitem__, batches)
    else:
        found = DataLoader(reader, batch_size=None, sampler=batches, num_workers=workers, collate_fn=_as_is)  # type: ignore[arg-type]
    for batch in found:
        if isinstance(batch, DataError):
            raise batch
        yield batch


def _as_is(batch: object) -> object:
    return batch
