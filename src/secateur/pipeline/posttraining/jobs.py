"""What sparsity after training works on: network, images that calibrate, images with labels, and the stage."""

from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from torch import nn

from secateur import zoo
from secateur.errors import RecipeError
from secateur.graph import read_model
from secateur.measure import installed_runtimes
from secateur.pipeline.context import Context
from secateur.pipeline.jobs import JobImages, start_run
from secateur.pipeline.posttraining.options import SparsifyOptions, recipe_for, stage_of
from secateur.recipe import BenchmarkStage, PosttrainingStage, Recipe


@dataclass(frozen=True, eq=False)
class OnnxJob:
    """Everything that `sparsify_onnx` needs to know.

    name          of the file
    images        calibrate
    data          labelled images to measure accuracy on, `test_limit` of them
    benchmark     of the result beside the dense file; None: nothing is timed
    tuning_asked  a file that cannot be tuned is an error; otherwise the closed form is the result, and a note says why
    """

    name: str
    model: onnx.ModelProto
    preprocessing: zoo.Preprocessing
    images: zoo.ImageData
    stage: PosttrainingStage
    data: zoo.ImageData | None = None
    test_limit: int | None = None
    seed: int = 0
    tuning_asked: bool = False
    benchmark: BenchmarkStage | None = None


def onnx_job(
    file: Path, images: JobImages, options: SparsifyOptions, model_name: str | None, preprocessing: str | None
) -> OnnxJob:
    """The job on an ONNX file. raises RecipeError for options that it cannot have;  ModelError"""
    if options.weights is not None or options.classes is not None:
        raise RecipeError("an ONNX file has its own weights and classes; leave these options out.")
    model = read_model(file)
    prepared = zoo.onnx_preprocessing(model, file, stated=preprocessing, name=model_name, crop_pct=options.crop_pct)
    stage = stage_of(options)
    return OnnxJob(
        str(file),
        model,
        prepared,
        images.calibration or images.data,
        stage,
        images.data if images.data.labelled else None,
        options.test_limit,
        options.seed,
        bool(options.tuning),
        BenchmarkStage(runtimes=installed_runtimes("onnx")) if options.benchmark else None,
    )


def torch_job(name: str, network: nn.Module | None, images: JobImages, options: SparsifyOptions, out: Path) -> Context:
    """The beginning of a run; without a network, the zoo's one of that name.

    raises    RecipeError, ModelError, DataError, WeightsError
    """

    def recipe(weights: str | None, data: zoo.ImageData, calibration: str | None) -> Recipe:
        return recipe_for(name, replace(options, weights=weights), images.name, data, calibration)

    return start_run(name, network, images, options, out, recipe)
