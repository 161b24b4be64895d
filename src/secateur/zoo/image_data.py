"""Labelled images in two splits, and the registry of where they come from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from secateur.errors import DataError
from secateur.registry import Registry

SPLITS = ("train", "test")


class Images(Protocol):
    """Map-style images: item -> (PIL image, class index)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Image.Image, int]: ...


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images to learn from, images to measure with.

    train    None when there are only test images
    classes  names, in the order of the class indices
    flip     whether a mirrored image still shows its class (not so for digits)
    labelled False: labels mean nothing; the images calibrate and tune, and fit any network
    """

    name: str
    train: Images | None
    test: Images
    classes: tuple[str, ...]
    flip: bool = True
    labelled: bool = True

    def split(self, name: str) -> Images:
        """The images of the split 'train' or 'test'. raises DataError when there are none."""
        if name not in SPLITS:
            raise DataError(f"{self.name}: split '{name}' is not one of {', '.join(SPLITS)}.")
        images = self.train if name == "train" else self.test
        if images is None or not len(images):
            raise DataError(
                f"{self.name}: has no {name} images; a folder needs the sub-folders train/ and val/, "
                "or a holdout share."
            )
        return images


@dataclass(frozen=True)
class Wanted:
    """What the user asked of a data set.

    argument      what follows the colon of `cifar10:DIR` or `imagefolder:DIR`
    classes_file  one class folder a line: their order and number
    root          where torchvision keeps its data sets
    holdout       share of a folder without splits that is kept for testing
    """

    argument: str | None = None
    classes_file: Path | None = None
    root: Path | None = None
    holdout: float | None = None


datasets: Registry[Callable[[Wanted], ImageData]] = Registry("data set")


class ArrayImages:
    """Images that lie in memory: uint8 pixels (images, height, width, 3) and their class indices."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int, /) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pixels[index]), int(self.labels[index])
