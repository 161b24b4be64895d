"""Random variations of training images, the same for the same (seed, epoch, image) whoever loads it.

Small inputs (up to 64 pixels): a crop after padding by 4, and a mirror image, for a whole batch at once.
Larger inputs: torchvision's RandomResizedCrop and a mirror image.
"""

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from secateur.zoo.pixels import in_mode
from secateur.zoo.preprocessing import Preprocessing
from secateur.zoo.torchvision_guard import import_torchvision

SMALL, PADDING = 64, 4

# Independent streams of random numbers under one (seed, epoch).
ORDER, CROPS, ITEMS = range(3)


def stream(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    """The random numbers of one purpose in one epoch."""
    return np.random.default_rng([seed, epoch, purpose])


def is_small(preprocessing: Preprocessing) -> bool:
    return max(preprocessing.input_size[1:]) <= SMALL


class CropAndFlip:
    """Shifts of up to 4 pixels and mirror images, for all images of a split."""

    def __init__(self, images: int, seed: int, epoch: int, flip: bool) -> None:
        random = stream(seed, epoch, CROPS)
        self._shifts = random.integers(0, 2 * PADDING + 1, (images, 2))
        self._mirrored = random.random(images) < (0.5 if flip else 0.0)

    def __call__(self, pixels: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """uint8 (batch, height, width, channels) of the images at `indices` -> the same shape, varied."""
        _, height, width, _ = pixels.shape
        edge = (PADDING, PADDING)
        padded = np.pad(pixels, ((0, 0), edge, edge, (0, 0)))
        # (batch, vertical shift, horizontal shift, channels, height, width), a view
        windows = sliding_window_view(padded, (height, width), axis=(1, 2))
        rows, columns = self._shifts[indices].T
        varied = windows[np.arange(len(indices)), rows, columns]
        mirrored = self._mirrored[indices]
        varied[mirrored] = varied[mirrored, ..., ::-1]
        return varied.transpose(0, 2, 3, 1)


class ResizedCropAndFlip:
    """A random part of the image, of 8 % to 100 % of its area, in the input size."""

    def __init__(self, images: int, seed: int, epoch: int, flip: bool, preprocessing: Preprocessing) -> None:
        self._seeds = stream(seed, epoch, ITEMS).integers(0, 2**63 - 1, images)
        self._preprocessing = preprocessing
        v2 = import_torchvision("transforms.v2")
        self._transform = v2.Compose(
            [
                v2.RandomResizedCrop(preprocessing.input_size[1:], interpolation=_interpolation(preprocessing)),
                v2.RandomHorizontalFlip(0.5 if flip else 0.0),
            ]
        )

    def __call__(self, image: Image.Image, index: int) -> np.ndarray:
        """uint8 (height, width, channels)."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(self._seeds[index]))
            varied = self._transform(in_mode(image, self._preprocessing))
        return np.asarray(varied).reshape(*self._preprocessing.input_size[1:], -1)


def _interpolation(preprocessing: Preprocessing) -> object:
    return import_torchvision("transforms.v2").InterpolationMode(preprocessing.interpolation)
