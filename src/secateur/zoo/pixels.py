"""From an image to the pixels that a network sees, before they are normalised."""

import weakref

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from secateur.errors import DataError
from secateur.zoo.image_data import ImageData
from secateur.zoo.preprocessing import Preprocessing

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# Decoded images are kept in memory up to this size per split.
KEEP_BYTES = 512 << 20


def in_mode(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The image in RGB, or in grey for a network of one input channel."""
    mode = "RGB" if preprocessing.input_size[0] == 3 else "L"
    return image if image.mode == mode else image.convert(mode)


def fit(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """uint8 (height, width, channels) of the network's input size: resized, then the centre cut out.

    An image that has the input size already is taken as it is.
    """
    image = in_mode(image, preprocessing)
    height, width = preprocessing.input_size[1:]
    if image.size != (width, height):
        # It covers the input enlarged by 1 / crop_pct, as resizing the short side does for squares.
        needed = (round(width / preprocessing.crop_pct), round(height / preprocessing.crop_pct))
        scale = max(needed[0] / image.width, needed[1] / image.height)
        size = (max(needed[0], int(image.width * scale)), max(needed[1], int(image.height * scale)))
        if size != image.size:
            image = image.resize(size, _FILTERS[preprocessing.interpolation])
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image).reshape(height, width, -1)


def normalise(pixels: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """uint8 (batch, height, width, channels) -> float32 (batch, channels, height, width), contiguous."""
    x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float()
    if preprocessing.channels == "bgr":
        x = x.flip(1)
    mean, std = (
        torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (preprocessing.mean, preprocessing.std)
    )
    return x.div_(255).sub_(mean).div_(std)


class Decoded:
    """The fitted pixels of one split, decoded once, when they are first asked for."""

    def __init__(self, data: ImageData, split: str, preprocessing: Preprocessing) -> None:
        images = data.split(split)
        channels, height, width = preprocessing.input_size
        self._pixels = np.zeros((len(images), height, width, channels), np.uint8)
        self._labels = np.full(len(images), -1, np.int64)

    def take(
        self, data: ImageData, split: str, indices: np.ndarray, preprocessing: Preprocessing
    ) -> tuple[np.ndarray, np.ndarray]:
        """(pixels, labels) of the images at `indices`. raises DataError when one cannot be read."""
        for index in indices[self._labels[indices] < 0]:
            image, label = item(data, split, int(index))
            self._pixels[index] = fit(image, preprocessing)
            self._labels[index] = label
        return self._pixels[indices], self._labels[indices]


def item(data: ImageData, split: str, index: int) -> tuple[Image.Image, int]:
    """Image and label, the label checked. raises DataError."""
    image, label = data.split(split)[index]
    if not 0 <= label < len(data.classes):
        raise DataError(
            f"{data.name}: image {index} of {split} has the label {label}, outside of its {len(data.classes)} classes."
        )
    return image, label


# What a split looks like at one input geometry; the data set's own lifetime ends it.
_kept: "weakref.WeakKeyDictionary[ImageData, dict[str, tuple[tuple, Decoded]]]" = weakref.WeakKeyDictionary()


def decoded(data: ImageData, split: str, preprocessing: Preprocessing) -> Decoded | None:
    """The kept pixels of a split, shared by all loaders; None when they would be larger than KEEP_BYTES.

    Only the last geometry is kept, so that two networks with different inputs do not double the memory.
    """
    channels, height, width = preprocessing.input_size
    if len(data.split(split)) * channels * height * width > KEEP_BYTES:
        return None
    geometry = (preprocessing.input_size, preprocessing.interpolation, preprocessing.crop_pct)
    splits = _kept.setdefault(data, {})
    if split not in splits or splits[split][0] != geometry:
        splits[split] = (geometry, Decoded(data, split, preprocessing))
    return splits[split][1]
