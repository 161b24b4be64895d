"""Numbers of fewer bits for a trained network, after or during training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from secateur import zoo
from secateur.api.targets import file_alone, options_of, torch_network
from secateur.pipeline import Context, run_recipe
from secateur.pipeline.dry_run import describe
from secateur.pipeline.jobs import images_of, start_run
from secateur.pipeline.quantization.onnx_file import describe_job, quantize_job, quantize_onnx
from secateur.pipeline.quantization.options import QuantizeOptions
from secateur.pipeline.quantization.options import recipe_for as quantize_recipe
from secateur.pipeline.quantization.outcome import QuantizedNetwork, quantized_by
from secateur.posttraining.calibration import choose_images
from secateur.quantization.training import Prepared, prepare_
from secateur.recipe import QuantizeStage, Recipe, build_recipe
from secateur.report import write_report


def quantize(
    model: str | Path | nn.Module,
    images: str | Path | zoo.ImageData | None = None,
    *,
    data: str | zoo.ImageData | None = None,
    out: str | Path = "run",
    overwrite: bool = False,
    command: str | None = None,
    model_name: str | None = None,
    preprocessing: str | None = None,
    **options: Any,
) -> QuantizedNetwork:
    """Numbers of fewer bits for a trained network, from a few images without labels, and proof in every runtime.

    model            a name, a run folder, a trained torch network, which stays as it is, or an ONNX file from any tool
    images           calibrate: a folder of images, or data such as "cifar10" whose training images are taken; by
                     default those of `data`
    data             labelled images whose test split gives accuracy; by default `images`, where they have labels.
                     Without labels only the nearness to the float network is told
    out              the run folder; what was interrupted there goes on
    overwrite        the folder may hold something else
    model_name       of an ONNX file: the zoo's network that it holds, which says how images are prepared
    preprocessing    of an ONNX file that does not say it itself: see secateur.zoo.onnx_preprocessing
    options          fields of secateur.pipeline.quantization.options.QuantizeOptions (bits, observer, rounding, ...)
    raises           SecateurError
    """
    asked = options_of(QuantizeOptions, options)
    started = command or "secateur.quantize(...)"
    file = file_alone(model)
    if file is not None:
        job = quantize_job(file, images_of(images, data, asked), asked, model_name, preprocessing)
        made = quantize_onnx(job, Path(out), overwrite=overwrite, command=started)
        write_report(out)
        return made
    only = {"model_name": model_name, "preprocessing": preprocessing}
    context = _quantize_context(model, images, data, asked, Path(out), only)
    record = run_recipe(context, command=started, overwrite=overwrite)
    return quantized_by(record, context.network)


def quantize_(network: nn.Module, images: str | zoo.ImageData | None = None, **config: Any) -> Prepared:
    """Make a torch network round its weights and activations, in place, to be trained that way.

    images     training images that give the first ranges
    config     keys of the section `qat` of a stage `quantize` (scheme, weight_bits, overrides, ...)
    returns    what `hook()` gives training, and what secateur.quantization.training.finish_ makes a plain network with
               rounded weights, its float file and the table of its scales of
    raises     RecipeError, QuantizationError, DataError
    """
    section = {"stage": "quantize", "method": "qat", "qat": config}
    stage = build_recipe({"model": {"name": "any"}, "stages": [section]}, "the call").stages[0]
    assert isinstance(stage, QuantizeStage) and stage.qat is not None
    preprocessing, batches = zoo.preprocessing_of(network), None
    if images is not None:
        data = zoo.data(images) if isinstance(images, str) else images
        chosen = choose_images(data, stage.images, 0)
        batches = chosen.batches(preprocessing, stage.batch_size)
    return prepare_(network, stage.qat, input_size=preprocessing.input_size, batches=batches)


def preview_quantize(
    model: str | Path | nn.Module,
    images: str | Path | zoo.ImageData | None = None,
    *,
    data: str | zoo.ImageData | None = None,
    out: str | Path = "run",
    model_name: str | None = None,
    preprocessing: str | None = None,
    **options: Any,
) -> str:
    """What `quantize` with the same arguments would do, as text; nothing is computed or written."""
    asked = options_of(QuantizeOptions, options)
    file = file_alone(model)
    if file is not None:
        return describe_job(quantize_job(file, images_of(images, data, asked), asked, model_name, preprocessing))
    only = {"model_name": model_name, "preprocessing": preprocessing}
    return describe(_quantize_context(model, images, data, asked, Path(out), only))


def _quantize_context(
    model: str | Path | nn.Module,
    images: str | Path | zoo.ImageData | None,
    data: str | zoo.ImageData | None,
    options: QuantizeOptions,
    out: Path,
    onnx_only: dict[str, str | None],
) -> Context:
    name, network = torch_network(model, onnx_only)
    found = images_of(images, data, options)

    def recipe(weights: str | None, judged: zoo.ImageData, calibration: str | None) -> Recipe:
        return quantize_recipe(name, replace(options, weights=weights), found.name, judged, calibration)

    return start_run(name, network, found, options, out, recipe)
