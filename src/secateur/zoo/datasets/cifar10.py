"""CIFAR-10 as torchvision keeps it; downloaded by torchvision when it is not there yet.

Source: Krizhevsky 2009. torchvision compares every file with its published checksum before it reads it.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from secateur.errors import DataError
from secateur.zoo.image_data import ArrayImages, ImageData, Wanted, datasets
from secateur.zoo.imported import describe
from secateur.zoo.torchvision_guard import import_torchvision


@datasets.register("cifar10")
def cifar10(wanted: Wanted) -> ImageData:
    """50,000 training and 10,000 test images of 32x32 pixels. raises DataError when they cannot be had."""
    root = Path(wanted.argument or wanted.root or _cache()).expanduser()
    if root.name == "cifar-10-batches-py":
        root = root.parent
    train, test = (_read(root, train) for train in (True, False))
    return ImageData("cifar10", _images(train), _images(test), tuple(test.classes))


def _cache() -> str:
    return os.environ.get("SECATEUR_DATA", "~/.cache/secateur/data")


def _read(root: Path, train: bool) -> Any:
    dataset = import_torchvision("datasets").CIFAR10
    try:
        return dataset(str(root), train=train, download=False)
    except RuntimeError:
        return _download(dataset, root, train)


def _download(dataset: Any, root: Path, train: bool) -> Any:
    try:
        return dataset(str(root), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"cifar10: not in {root}, and the download failed ({describe(error)}); put "
            "cifar-10-batches-py there, or name its folder: cifar10:DIR."
        ) from error


def _images(dataset: Any) -> ArrayImages:
    return ArrayImages(dataset.data, np.asarray(dataset.targets))
