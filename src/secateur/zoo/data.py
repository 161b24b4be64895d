"""Images by name: `digits`, `cifar10[:DIR]`, `imagefolder:DIR`, `images:DIR`, or `package.module:callable`.

images = data("imagefolder:flowers", holdout=0.2)
images.train[0]     # (PIL image, class index)
images.classes      # names
"""

from pathlib import Path

from torch import nn

import secateur.zoo.datasets  # noqa: F401  (registers the data sets)
from secateur.errors import DataError
from secateur.zoo.head import classes_of
from secateur.zoo.image_data import ImageData, Wanted, datasets
from secateur.zoo.imported import call, import_callable, is_spec


def data(
    name: str,
    *,
    classes_file: Path | str | None = None,
    root: Path | str | None = None,
    holdout: float | None = None,
) -> ImageData:
    """The images called `name`.

    classes_file  text file with one class folder a line (imagefolder only): fixes their order and number
    root          folder where torchvision keeps its data sets (cifar10)
    holdout       share of an image folder without splits that is kept for testing

    raises    RecipeError  unknown name;  DataError  missing folder, no images, classes that do not agree
    """
    kind, colon, argument = name.partition(":")
    if kind not in datasets and is_spec(name):
        return _imported(name)
    maker = datasets[kind]
    if colon and not argument:
        raise DataError(f"{name}: nothing follows the colon; write {kind}:DIR.")
    return maker(
        Wanted(
            argument or None,
            Path(classes_file) if classes_file else None,
            Path(root) if root else None,
            holdout,
        )
    )


def check_classes(images: ImageData, module: nn.Module) -> None:
    """Make sure that a network tells apart as many classes as the images have. raises DataError."""
    if not images.labelled:
        return
    has, wants = len(images.classes), classes_of(module)
    if has != wants:
        network = getattr(module, "zoo_name", type(module).__name__)
        raise DataError(
            f"{images.name}: has {has} classes, but {network} tells {wants} apart; build it with "
            f"classes={has}, or give a class list of {wants} lines."
        )


def _imported(name: str) -> ImageData:
    images = call(name, import_callable(name, DataError), DataError)
    if not isinstance(images, ImageData):
        raise DataError(f"{name}: must return a secateur.zoo.ImageData, it returned a {type(images).__name__}.")
    return images
