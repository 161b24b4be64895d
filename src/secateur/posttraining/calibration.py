"""Which images calibrate: a fixed draw of training images, kept as a list of indices with the result. No labels.

    calibration = choose_images(zoo.data("imagefolder:DIR"), 1024)
    calibration = choose_images("photos/", 512)                      any folder of images, no labels, no class folders
    for images in calibration.batches(preprocessing, 64): ...

The draw of a smaller count is the beginning of that of a larger one with the same seed. Images that accuracy is later
reported on are never taken: data without training images is refused.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from secateur.errors import ArtifactError, DataError
from secateur.progress import say
from secateur.zoo import ImageData, Preprocessing, loader
from secateur.zoo import data as data_of
from secateur.zoo.augment import ORDER, stream
from secateur.zoo.image_data import Images

IMAGES = 1024
# An independent stream of random numbers beside those of zoo/augment.py.
_DRAW = 0x5EC


@dataclass(frozen=True, eq=False)
class Calibration:
    """Training images of one data set.

    indices    of the images, in the order of the draw
    seed       of the draw
    data       where they are from
    """

    indices: tuple[int, ...]
    seed: int
    data: ImageData = field(repr=False)
    _images: ImageData = field(init=False, repr=False)

    def __post_init__(self) -> None:
        train = self.data.split("train")
        if not self.indices or min(self.indices) < 0 or max(self.indices) >= len(train):
            raise DataError(f"{self.data.name}: calibration needs indices of its {len(train)} training images.")
        own = ImageData(self.data.name, None, _Chosen(train, self.indices), ("any",), self.data.flip)
        # Pixels that are decoded once are kept as long as this lives.
        object.__setattr__(self, "_images", own)

    def __len__(self) -> int:
        return len(self.indices)

    def batches(
        self,
        preprocessing: Preprocessing,
        batch_size: int,
        *,
        augment: bool = False,
        seed: int = 0,
        epoch: int = 0,
        workers: int = 0,
    ) -> Iterator[Tensor]:
        """Every image once: float32 (batch, channels, height, width), prepared for the network; the last batch is
        smaller where they do not divide.

        augment    random crops and mirror images
        epoch      0 gives the order of the draw, every other one an order of its own
        seed       of the orders and variations, not of the draw
        workers    processes that decode
        raises     DataError  an image that cannot be read
        """
        count = len(self)
        order = stream(seed, epoch, ORDER).permutation(count).tolist() if epoch else range(count)
        prepared = loader(
            self._images,
            "test",
            preprocessing,
            batch_size=batch_size,
            augment=augment,
            seed=seed,
            epoch=epoch,
            workers=workers,
            indices=order,
        )
        return (images for images, _ in prepared)

    def variations(
        self, preprocessing: Preprocessing, batch_size: int, times: int, *, seed: int = 0
    ) -> Iterator[Tensor]:
        """Every image `times` times, each time cropped and mirrored otherwise (OBC takes ten)."""
        return itertools.chain.from_iterable(
            self.batches(preprocessing, batch_size, augment=True, seed=seed, epoch=epoch) for epoch in range(times)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, to be kept with whatever the images led to."""
        return {
            "data": self.data.name,
            "split": "train",
            "of": len(self.data.split("train")),
            "seed": self.seed,
            "indices": list(self.indices),
        }

    @classmethod
    def from_dict(cls, value: Any, data: ImageData) -> "Calibration":
        """The calibration that `to_dict` wrote, with the images of `data`.

        raises    ArtifactError  it is none, or of data with another number of images
        """
        if not isinstance(value, Mapping) or not isinstance(value.get("indices"), Sequence):
            raise ArtifactError("this is not a list of calibration images.")
        count = len(data.split("train"))
        if value.get("of") != count:
            raise ArtifactError(
                f"{data.name}: has {count} training images; the calibration images were drawn from {value.get('of')}."
            )
        indices, seed = tuple(value["indices"]), value.get("seed")
        if not all(isinstance(n, int) and not isinstance(n, bool) for n in (*indices, seed)):
            raise ArtifactError("the indices and the seed of calibration images must be whole numbers.")
        try:
            return cls(indices, int(seed), data)  # type: ignore[arg-type]
        except DataError as error:
            raise ArtifactError(str(error)) from error


def choose_images(data: ImageData | Path | str, count: int = IMAGES, seed: int = 0) -> Calibration:
    """`count` of the training images, drawn without repetition; all of them where there are fewer, which is said.

    data      images, or a folder that holds images, at any depth, without labels
    raises    DataError  no training images, no such folder, a count below 1
    """
    if count < 1:
        raise DataError(f"calibration needs at least 1 image, not {count}.")
    images = data if isinstance(data, ImageData) else data_of(f"images:{data}")
    total = len(images.split("train"))
    if total < count:
        say(f"{images.name}: has {total} training images, fewer than the {count} asked for; all of them calibrate.")
    drawn = np.random.default_rng([seed, _DRAW]).permutation(total)[:count]
    return Calibration(tuple(int(index) for index in drawn), seed, images)


def choose_batches(data: ImageData | Path | str, batches: int, batch_size: int, seed: int = 0) -> Calibration:
    """So many batches' worth of images: what MSBench calls `cali_batchsize` counts batches, not images."""
    if batches < 1 or batch_size < 1:
        raise DataError(f"calibration needs at least 1 batch of 1 image, not {batches} of {batch_size}.")
    return choose_images(data, batches * batch_size, seed)


class _Chosen:
    """Some of the images; their labels, which mean nothing here, are 0."""

    def __init__(self, images: Images, indices: Sequence[int]) -> None:
        self._images, self._indices = images, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int, /) -> tuple[Image.Image, int]:
        return self._images[self._indices[index]][0], 0
