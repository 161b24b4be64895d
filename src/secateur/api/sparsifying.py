"""Zeros in a trained network from a few images, and what they cost along many targets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from secateur import zoo
from secateur.api.targets import file_alone, options_of, torch_network
from secateur.pipeline import Context, run_recipe
from secateur.pipeline.dry_run import describe
from secateur.pipeline.jobs import images_of
from secateur.pipeline.posttraining.frontier import ZEROS, FrontierSettings, draw_frontier
from secateur.pipeline.posttraining.frontier_networks import OnnxNetwork, TorchNetwork
from secateur.pipeline.posttraining.jobs import OnnxJob, onnx_job, torch_job
from secateur.pipeline.posttraining.onnx_file import preview_onnx, sparsify_onnx
from secateur.pipeline.posttraining.options import SparsifyOptions
from secateur.pipeline.posttraining.outcome import Sparsified, sparsified_by
from secateur.posttraining.frontier import Frontier
from secateur.recipe import PosttrainingStage
from secateur.report import write_frontier_chart, write_report


def sparsify(
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
) -> Sparsified:
    """Put zeros into a trained network with a few images, no labels and no training: minutes on a CPU.

    model            a name, a run folder, a trained torch network, which stays as it is, or an ONNX file from any tool
    images           calibrate: a folder of images, or data such as "cifar10" whose training images are taken; by
                     default those of `data`
    data             labelled images whose test split gives accuracy; by default `images`, where they have labels.
                     Without labels only the distance to the dense network is told
    out              the run folder; what was interrupted there goes on
    overwrite        the folder may hold something else
    model_name       of an ONNX file: the zoo's network that it holds, which says how images are prepared
    preprocessing    of an ONNX file that does not say it itself: see secateur.zoo.onnx_preprocessing
    options          fields of secateur.pipeline.posttraining.options.SparsifyOptions (sparsity, pattern, budget, ...)
    raises           SecateurError
    """
    asked = options_of(SparsifyOptions, options)
    started = command or "secateur.sparsify(...)"
    job = _onnx_job(model, images, data, asked, model_name, preprocessing)
    if job is not None:
        found = sparsify_onnx(job, Path(out), overwrite=overwrite, command=started)
        write_report(out)
        return found
    only = {"model_name": model_name, "preprocessing": preprocessing}
    context = _sparsify_context(model, images, data, asked, Path(out), only)
    record = run_recipe(context, command=started, overwrite=overwrite)
    return sparsified_by(record, context.network)


def preview_sparsify(
    model: str | Path | nn.Module,
    images: str | Path | zoo.ImageData | None = None,
    *,
    data: str | zoo.ImageData | None = None,
    out: str | Path = "run",
    model_name: str | None = None,
    preprocessing: str | None = None,
    **options: Any,
) -> str:
    """What `sparsify` with the same arguments may change, per layer, as text; nothing is computed or written."""
    asked = options_of(SparsifyOptions, options)
    job = _onnx_job(model, images, data, asked, model_name, preprocessing)
    if job is not None:
        return preview_onnx(job)
    only = {"model_name": model_name, "preprocessing": preprocessing}
    return describe(_sparsify_context(model, images, data, asked, Path(out), only))


def frontier(
    model: str | Path | nn.Module,
    images: str | Path | zoo.ImageData | None = None,
    *,
    data: str | zoo.ImageData | None = None,
    out: str | Path = "frontier",
    against: Sequence[str] = ("sparsity", "macs"),
    zeros: Sequence[float] = ZEROS,
    second_pass: bool = False,
    model_name: str | None = None,
    preprocessing: str | None = None,
    **options: Any,
) -> Frontier:
    """What zeros cost along many targets: one database of all layers, then a network for every target in seconds.

    model          a name, a run folder, a trained torch network, or an ONNX file from any tool; it stays as it is
    images, data   as in `sparsify`; with labels accuracy is measured, without them the distance to the dense network
    model_name, preprocessing    of an ONNX file, as in `sparsify`
    out            gets frontier.json, .png and .svg; a call that was stopped goes on, more points take their own time
    against        sparsity, parameters, macs, bytes, seconds (of our engine, measured here)
    zeros          fractions of zeros, and of a cost that goes
    second_pass    compress every point again with the inputs that pruned layers give: often better, and slower
    options        fields of SparsifyOptions (pattern, images_count, exclude, ...)
    raises         SecateurError
    """
    asked = options_of(SparsifyOptions, options | {"second_pass": second_pass})
    settings = FrontierSettings(tuple(against), tuple(zeros))
    job = _onnx_job(model, images, data, asked, model_name, preprocessing)
    if job is not None:
        name, stage, network = Path(job.name).name, job.stage, OnnxNetwork(job)
    else:
        only = {"model_name": model_name, "preprocessing": preprocessing}
        context = _sparsify_context(model, images, data, asked, Path(out), only)
        stage = next(stage for stage in context.recipe.stages if isinstance(stage, PosttrainingStage))
        name, network = context.recipe.model.name, TorchNetwork(context)
    found = draw_frontier(network, Path(out), stage, settings)
    title = f"{name}, {', '.join(stage.patterns)}, {stage.images} images without labels"
    write_frontier_chart(found, Path(out) / "frontier.png", Path(out) / "frontier.svg", title=title)
    return found


def _onnx_job(
    model: str | Path | nn.Module,
    images: str | Path | zoo.ImageData | None,
    data: str | zoo.ImageData | None,
    options: SparsifyOptions,
    model_name: str | None,
    preprocessing: str | None,
) -> OnnxJob | None:
    file = file_alone(model)
    return (
        None if file is None else onnx_job(file, images_of(images, data, options), options, model_name, preprocessing)
    )


def _sparsify_context(
    model: str | Path | nn.Module,
    images: str | Path | zoo.ImageData | None,
    data: str | zoo.ImageData | None,
    options: SparsifyOptions,
    out: Path,
    onnx_only: dict[str, str | None],
) -> Context:
    name, network = torch_network(model, onnx_only)
    return torch_job(name, network, images_of(images, data, options), options, out)
