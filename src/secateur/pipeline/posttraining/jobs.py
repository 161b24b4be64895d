"""What sparsity after training works on: network, images that calibrate, images with labels, and the stage."""

from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from torch import nn

from secateur import zoo
from secateur.errors import DataError, RecipeError
from secateur.graph import read_model
from secateur.pipeline.context import Context
from secateur.pipeline.network import build_images
from secateur.pipeline.posttraining.options import (
    SparsifyOptions,
    data_of,
    images_spec,
    labelled_spec,
    recipe_for,
    stage_of,
    weights_for,
)
from secateur.recipe import PosttrainingStage


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


@dataclass(frozen=True, eq=False)
class OnnxJob:
    """Everything that `sparsify_onnx` needs to know.

    name          of the file
    images        calibrate
    data          labelled images to measure accuracy on, `test_limit` of them
    """

    name: str
    model: onnx.ModelProto
    preprocessing: zoo.Preprocessing
    images: zoo.ImageData
    stage: PosttrainingStage
    data: zoo.ImageData | None = None
    test_limit: int | None = None
    seed: int = 0


def images_of(
    images: str | Path | zoo.ImageData | None, data: str | Path | zoo.ImageData | None, options: SparsifyOptions
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


def onnx_job(
    file: Path, images: JobImages, options: SparsifyOptions, model_name: str | None, preprocessing: str | None
) -> OnnxJob:
    """The job on an ONNX file. raises RecipeError for options that it cannot have;  ModelError"""
    if options.weights is not None or options.classes is not None:
        raise RecipeError("an ONNX file has its own weights and classes; leave these options out.")
    if options.benchmark:
        raise RecipeError("of an ONNX file times are measured afterwards: `secateur bench` takes the run folder.")
    model = read_model(file)
    prepared = zoo.onnx_preprocessing(model, file, stated=preprocessing, name=model_name, crop_pct=options.crop_pct)
    # A budget brings tuning only where it can be had.
    stage = stage_of(replace(options, tuning=bool(options.tuning)))
    return OnnxJob(
        str(file),
        model,
        prepared,
        images.calibration or images.data,
        stage,
        images.data if images.data.labelled else None,
        options.test_limit,
        options.seed,
    )


def torch_job(name: str, network: nn.Module | None, images: JobImages, options: SparsifyOptions, out: Path) -> Context:
    """The beginning of a run; without a network, the zoo's one of that name.

    raises    RecipeError, ModelError, DataError, WeightsError
    """
    data, calibration = images.data, None
    if images.calibration is not None:
        data, calibration = _together(data, images.calibration)
    if network is None:
        options = replace(options, weights=weights_for(name, options))
        return Context.of(recipe_for(name, options, images.name, data, calibration), out, data)
    if options.weights is not None or options.classes is not None:
        raise RecipeError("the network comes with its weights and classes; leave these options out.")
    zoo.preprocessing_of(network)
    zoo.check_classes(data, network)
    return Context(recipe_for(name, options, images.name, data, calibration), out, data, network)


def _together(data: zoo.ImageData, calibration: zoo.ImageData) -> tuple[zoo.ImageData, str | None]:
    """(data, name of what calibrates); images that only this process knows take the place of the training images."""
    try:
        zoo.data(calibration.name)
    except (DataError, RecipeError):
        return replace(data, train=calibration.split("train"), flip=calibration.flip), None
    return data, calibration.name
