"""A recipe from a handful of options: what `secateur sparsify MODEL --images DIR --sparsity 0.6 ...` runs.

evaluate (with labels) -> posttraining -> evaluate (with labels) -> export -> benchmark (if asked) -> report
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from secateur import zoo
from secateur.errors import DataError, RecipeError
from secateur.recipe import Data, PosttrainingStage, Recipe, build_recipe
from secateur.registry import unknown
from secateur.zoo.datasets.imagefolder import TEST_FOLDERS
from secateur.zoo.image_data import datasets
from secateur.zoo.imported import is_spec

COSTS = ("macs", "parameters", "bytes", "seconds")


@dataclass(frozen=True)
class SparsifyOptions:
    """What `sparsify` can be told in a line; everything else needs a recipe.

    weights           None: the library's own where it has some
    classes_file, root, holdout, crop_pct, test_limit    as in a recipe's section data
    pattern           one or several: every layer gets the one that suits it best
    sparsity          None: what the pattern fixes, or 0.5
    macs, parameters, bytes, seconds    share of the dense network's that may remain, in place of a sparsity
    hardware          files of measured times of layers, for `seconds`
    images_count      that calibrate
    budget            seconds, or 90s, 10m, 1h
    tuning            None: where there is a budget
    benchmark         time the result in every runtime
    """

    weights: str | None = None
    classes: int | None = None
    classes_file: str | None = None
    root: str | None = None
    holdout: float | None = None
    crop_pct: float | None = None
    test_limit: int | None = None
    pattern: str | tuple[str, ...] = "unstructured"
    sparsity: float | None = None
    macs: float | None = None
    parameters: float | None = None
    bytes: float | None = None
    seconds: float | None = None
    hardware: tuple[str, ...] = ()
    base: Literal["conv_linear", "selected"] = "conv_linear"
    images_count: int = 1024
    allocation: str = "database"
    errors: Literal["loss", "output", "absolute"] = "loss"
    search: int = 0
    exclude: tuple[str, ...] = ()
    include_first: bool = False
    include_depthwise: bool = False
    include_classifier: bool = True
    permute: bool = False
    rearrange: bool = False
    second_pass: bool = True
    budget: float | str | None = None
    tuning: bool | None = None
    benchmark: bool = False
    seed: int = 0


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


def data_of(options: SparsifyOptions, name: str) -> Data:
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


def stage_of(options: SparsifyOptions, calibration: str | None = None) -> PosttrainingStage:
    """The stage that the options stand for. raises RecipeError for values out of range or that contradict each other"""
    recipe = build_recipe({"model": {"name": "any"}, "stages": [_stage(options, calibration)]}, "the command")
    stage = recipe.stages[0]
    assert isinstance(stage, PosttrainingStage)
    return stage


def recipe_for(
    model: str, options: SparsifyOptions, data: str, images: zoo.ImageData, calibration: str | None = None
) -> Recipe:
    """The recipe that the options stand for.

    data           the name of `images`, which the network is measured on where they have labels
    calibration    other images, which calibrate
    raises         RecipeError
    """
    measure: list[dict[str, Any]] = [{"stage": "evaluate"}] if images.labelled else []
    value = {
        "model": {
            "name": model,
            "weights": options.weights if options.weights != "none" else None,
            "classes": options.classes,
        },
        "data": data_of(options, data).model_dump(),
        "seed": options.seed,
        "stages": [
            *measure,
            _stage(options, calibration),
            *measure,
            {"stage": "export"},
            *([{"stage": "benchmark"}] if options.benchmark else []),
            {"stage": "report"},
        ],
    }
    return build_recipe(value, source="the command")


def weights_for(model: str, options: SparsifyOptions) -> str | None:
    """The weights of a named network. raises RecipeError where there are none: random ones are not worth it"""
    if options.weights is not None or ":" in model:
        return options.weights
    if any(name == model and pretrained for name, _, pretrained in zoo.model_sources(model)):
        return "pretrained"
    if not any(name == model for name, _, _ in zoo.model_sources(model)):
        return None  # the zoo will say which name is nearest
    raise RecipeError(
        f"{model}: no weights are published for it, and sparsity after training needs trained ones; give a "
        ".safetensors or .pth file as weights, or 'none' for random ones."
    )


def _stage(options: SparsifyOptions, calibration: str | None) -> dict[str, Any]:
    patterns = (options.pattern,) if isinstance(options.pattern, str) else tuple(options.pattern)
    remaining = {cost: share for cost in COSTS if (share := getattr(options, cost)) is not None}
    tuned = options.budget is not None if options.tuning is None else options.tuning
    return {
        "stage": "posttraining",
        "patterns": patterns,
        "sparsity": options.sparsity,
        "remaining": remaining,
        "hardware": options.hardware,
        "base": options.base,
        "calibration": calibration,
        "images": options.images_count,
        "allocation": options.allocation,
        "errors": options.errors,
        "search": options.search,
        "exclude": options.exclude,
        "include_first": options.include_first,
        "include_depthwise": options.include_depthwise,
        "include_classifier": options.include_classifier,
        "permute": options.permute,
        "rearrange": options.rearrange,
        "second_pass": options.second_pass,
        "tuning": {} if tuned else None,
        "budget": options.budget,
    }
