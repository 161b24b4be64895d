"""What verbs on a trained network and a few images work with: where all of it comes from.

images    calibrate: a folder without labels, or data whose training images are taken
data      labelled images, whose test split gives accuracy
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from secateur import zoo
from secateur.errors import DataError, RecipeError
from secateur.pipeline.context import Context
from secateur.pipeline.network import build_images
from secateur.recipe import Data, Recipe, build_recipe
from secateur.registry import unknown
from secateur.zoo.datasets.imagefolder import TEST_FOLDERS
from secateur.zoo.image_data import datasets
from secateur.zoo.imported import is_spec


@dataclass(frozen=True)
class JobOptions:
    """What all of these verbs can be told about network and images.

    weights           None: the library's own where it has some
    classes_file, root, holdout, crop_pct, test_limit    as in a recipe's section data
    images_count      that calibrate
    """

    weights: str | None = None
    classes: int | None = None
    classes_file: str | None = None
    root: str | None = None
    holdout: float | None = None
    crop_pct: float | None = None
    test_limit: int | None = None
    images_count: int = 1024
    seed: int = 0


@dataclass(frozen=True)
class JobImages:
    """Where images are from.

    name           of the data, as a recipe knows it
    data           images, with labels or without
    calibration    others, that calibrate; None: the training images of `data`
    """

    name: str
    data: zoo.ImageData
    calibration: zoo.ImageData | None = None


def images_spec(text: str) -> str:
    """The data that `--images` or `--data` means: a folder, or a name such as cifar10 or imagefolder:DIR.

    A folder with train/ and val/ has labels (imagefolder:DIR); of any other one the images are taken without labels.

    raises    DataError  neither a folder nor data
    """
    path = Path(text).expanduser()
    if path.is_dir():
        split = (path / "train").is_dir() and any((path / name).is_dir() for name in TEST_FOLDERS)
        return f"{'imagefolder' if split else 'images'}:{text}"
    if text.partition(":")[0] in datasets or is_spec(text):
        return text
    raise DataError(f"{text}: no such folder. {unknown('data', text, datasets)}")


def labelled_spec(text: str) -> str:
    """The labelled data that `--data` means: a folder of class folders, or a name. raises DataError"""
    return f"imagefolder:{text}" if Path(text).expanduser().is_dir() else images_spec(text)


def recipe_with(stages: list[dict[str, Any]], model: str, options: JobOptions, data: str) -> Recipe:
    """These stages for the network and the images of a job; `data` is their name. raises RecipeError"""
    value = {
        "model": {
            "name": model,
            "weights": options.weights if options.weights != "none" else None,
            "classes": options.classes,
        },
        "data": data_of(options, data).model_dump(),
        "seed": options.seed,
        "stages": stages,
    }
    return build_recipe(value, source="the command")


def data_of(options: JobOptions, name: str) -> Data:
    """The section `data` of a recipe. raises RecipeError for values out of range"""
    value = {
        "name": name,
        "root": options.root,
        "classes_file": options.classes_file,
        "holdout": options.holdout,
        "crop_pct": options.crop_pct,
        "test_limit": options.test_limit,
    }
    stages = [{"stage": "evaluate"}]
    return build_recipe({"model": {"name": "any"}, "data": value, "stages": stages}, "the command").data


def weights_for(model: str, options: JobOptions) -> str | None:
    """The weights of a named network. raises RecipeError where there are none: random ones are not worth it"""
    if options.weights is not None or ":" in model:
        return options.weights
    if any(name == model and pretrained for name, _, pretrained in zoo.model_sources(model)):
        return "pretrained"
    if not any(name == model for name, _, _ in zoo.model_sources(model)):
        return None  # the zoo will say which name is nearest
    raise RecipeError(
        f"{model}: no weights are published for it, and what is done after training needs trained ones; give a "
        ".safetensors or .pth file as weights, or 'none' for random ones."
    )


def images_of(
    images: str | Path | zoo.ImageData | None, data: str | Path | zoo.ImageData | None, options: JobOptions
) -> JobImages:
    """What `images` (they calibrate) and `data` (labelled ones) mean. raises DataError, RecipeError"""
    main = images if data is None else data
    if main is None:
        raise RecipeError("nothing to calibrate with: give images, a folder or data such as cifar10.")
    if isinstance(main, zoo.ImageData):
        name, found = main.name, main
    else:
        name = images_spec(str(main)) if data is None else labelled_spec(str(main))
        found = build_images(data_of(options, name))
    if data is not None and not found.labelled:
        raise DataError(f"{name}: has no labels to measure accuracy with; give it as images instead of data.")
    if images is None or data is None:
        return JobImages(name, found)
    return JobImages(name, found, images if isinstance(images, zoo.ImageData) else zoo.data(images_spec(str(images))))


def start_run(
    name: str,
    network: nn.Module | None,
    images: JobImages,
    options: JobOptions,
    out: Path,
    recipe: Callable[[str | None, zoo.ImageData, str | None], Recipe],
) -> Context:
    """The beginning of a run; without a network, the zoo's one of that name.

    recipe    (weights, images to measure with, name of others that calibrate) -> the recipe
    raises    RecipeError, ModelError, DataError, WeightsError
    """
    data, calibration = images.data, None
    if images.calibration is not None:
        data, calibration = _together(data, images.calibration)
    if network is None:
        return Context.of(recipe(weights_for(name, options), data, calibration), out, data)
    if options.weights is not None or options.classes is not None:
        raise RecipeError("the network comes with its weights and classes; leave these options out.")
    zoo.preprocessing_of(network)
    zoo.check_classes(data, network)
    return Context(recipe(None, data, calibration), out, data, network)


def _together(data: zoo.ImageData, calibration: zoo.ImageData) -> tuple[zoo.ImageData, str | None]:
    """(data, name of what calibrates); images that only this process knows take the place of the training images."""
    try:
        zoo.data(calibration.name)
    except (DataError, RecipeError):
        return replace(data, train=calibration.split("train"), flip=calibration.flip), None
    return data, calibration.name
