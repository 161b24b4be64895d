"""The 1,797 handwritten digits that come with scikit-learn: real images that need no download.

Source: Alpaydin & Kaynak 1998, 8x8 pixels with values 0..16; here enlarged to 32x32 in RGB, 0..255.
"""

from typing import Any

import numpy as np
from PIL import Image

from secateur.errors import DataError
from secateur.zoo.image_data import ArrayImages, ImageData, Wanted, datasets

SIZE = 32
# Every fifth image of the digits sorted by class: 360 for testing, each class within one image of its share.
TEST_EVERY = 5


@datasets.register("digits")
def digits(wanted: Wanted) -> ImageData:
    """1,437 training and 360 test images, always the same. raises DataError without scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise DataError("digits: needs scikit-learn; install secateur[torch].") from error
    bunch: Any = load_digits()
    by_class = np.argsort(bunch.target, kind="stable")
    tested = np.zeros(len(by_class), bool)
    tested[by_class[::TEST_EVERY]] = True
    pixels = np.stack([_enlarge(image) for image in bunch.images])
    return ImageData(
        "digits",
        ArrayImages(pixels[~tested], bunch.target[~tested]),
        ArrayImages(pixels[tested], bunch.target[tested]),
        tuple("0123456789"),
        flip=False,
    )


def _enlarge(image: np.ndarray) -> np.ndarray:
    grey = Image.fromarray(np.rint(image * (255 / 16)).astype(np.uint8))
    return np.asarray(grey.resize((SIZE, SIZE), Image.Resampling.BILINEAR).convert("RGB"))
