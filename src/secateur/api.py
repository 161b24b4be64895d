"""The verbs of Secateur in Python; `import secateur` offers every one of them as `secateur.<verb>`.

    import secateur

    result = secateur.compress("resnet20_cifar10", "digits", pattern="1x4", sparsity=0.8, out="run")
    print(result.record.folder / "report.html")

The command line calls these functions and nothing else.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

import secateur.pipeline.torch_runtimes  # noqa: F401  (registers torch and torch.compile)
from secateur import channels, graph, sparsity, training, zoo
from secateur.errors import ModelError, RecipeError
from secateur.export import MODEL_FILE, WEIGHTS_FILE, check_onnx, folded_copy
from secateur.export import export_onnx as write_onnx
from secateur.pipeline import (
    Context,
    RunRecord,
    build_images,
    build_network,
    is_rebuildable,
    load_artifact_network,
    run_recipe,
    stage_handlers,
)
from secateur.pipeline.dry_run import describe
from secateur.pipeline.jobs import JobOptions, images_of, start_run
from secateur.pipeline.options import Options, data_of, recipe_of
from secateur.pipeline.posttraining.frontier import ZEROS, FrontierSettings, draw_frontier
from secateur.pipeline.posttraining.jobs import OnnxJob, onnx_job, torch_job
from secateur.pipeline.posttraining.onnx_file import preview_onnx, sparsify_onnx
from secateur.pipeline.posttraining.options import SparsifyOptions
from secateur.pipeline.posttraining.outcome import Sparsified, sparsified_by
from secateur.pipeline.quantization.onnx_file import describe_job, quantize_job, quantize_onnx
from secateur.pipeline.quantization.options import QuantizeOptions
from secateur.pipeline.quantization.options import recipe_for as quantize_recipe
from secateur.pipeline.quantization.outcome import QuantizedNetwork, quantized_by
from secateur.pipeline.sensitivity import SensitivitySettings, analyse_sensitivity
from secateur.posttraining.calibration import choose_images
from secateur.posttraining.frontier import Frontier
from secateur.quantization.training import Prepared, prepare_
from secateur.recipe import (
    Data,
    Model,
    PosttrainingStage,
    QuantizeStage,
    Recipe,
    ReportStage,
    build_recipe,
    load_recipe,
)
from secateur.registry import unknown
from secateur.report import write_frontier_chart, write_report, write_sensitivity_chart

_Kind = TypeVar("_Kind", bound=JobOptions)


@dataclass(frozen=True)
class Result:
    """What `compress` made: the record of the run, and the compressed network with its zeros written in."""

    record: RunRecord
    network: nn.Module

    @property
    def folder(self) -> Path:
        return self.record.folder


@stage_handlers.register("report")
def report_stage(context: Context, stage: ReportStage) -> dict[str, Any]:
    """The last stage: it belongs to the room above the pipeline, so the floor above both registers it."""
    written = write_report(context.folder, stage.title)
    return {"files": [path.relative_to(context.folder).as_posix() for path in written]}


def compress(
    model: str | nn.Module | None = None,
    data: str | zoo.ImageData | None = None,
    recipe: Recipe | str | Path | dict[str, Any] | None = None,
    *,
    out: str | Path = "run",
    overwrite: bool = False,
    command: str | None = None,
    **options: Any,
) -> Result:
    """Make a network small: train, sparsify, distil, export, benchmark and report, as the recipe or options say.

    model        a name, `package.module:callable`, or a trained torch network with an attribute `preprocessing`,
                 which stays as it is: a copy is compressed
    data         a name such as "digits" or "imagefolder:DIR", or an ImageData
    recipe       a recipe, its file, or the same as a dict; `model` and `data` replace those that it names
    out          the run folder; a run that was interrupted there goes on
    overwrite    the folder may hold another run
    options      without a recipe: the fields of secateur.pipeline.options.Options (pattern, sparsity, epochs, ...)
    raises       SecateurError  with one sentence that says what is wrong
    """
    context = prepare(model, data, recipe, out=out, **options)
    record = run_recipe(context, command=command or "secateur.compress(...)", overwrite=overwrite)
    return Result(record, folded_copy(context.network))


def plan(
    model: str | nn.Module | None = None,
    data: str | zoo.ImageData | None = None,
    recipe: Recipe | str | Path | dict[str, Any] | None = None,
    *,
    out: str | Path = "run",
    **options: Any,
) -> str:
    """What `compress` with the same arguments would do, per layer, as text; nothing is written."""
    return describe(prepare(model, data, recipe, out=out, **options))


def prepare(
    model: str | nn.Module | None,
    data: str | zoo.ImageData | None,
    recipe: Recipe | str | Path | dict[str, Any] | None,
    *,
    out: str | Path,
    **options: Any,
) -> Context:
    """The beginning of a run: everything named is found and fits together. raises SecateurError."""
    known = [field.name for field in fields(Options)]
    for name in options:
        if name not in known:
            raise RecipeError(unknown("option", name, known))
    if recipe is not None:
        chosen = _read(recipe, model, data, options.get("weights"))
        allowed = {"weights"}
        extra = sorted(set(options) - allowed)
        if extra:
            raise RecipeError(f"a recipe and the option '{extra[0]}' contradict each other; write it in the recipe.")
        chosen = _replaced(chosen, model, data, options.get("weights"))
        images = data if isinstance(data, zoo.ImageData) else build_images(chosen.data)
    else:
        if model is None:
            raise RecipeError("nothing to compress: give a model or a recipe.")
        asked = Options(**options)
        if isinstance(data, str):
            asked = replace(asked, data=data)
        elif data is not None:
            asked = replace(asked, data=data.name)
        images = data if isinstance(data, zoo.ImageData) else build_images(data_of(asked))
        if not isinstance(model, str) and asked.train_epochs is None:
            asked = replace(asked, train_epochs=0)  # a network that is given as an object comes with its weights
        name = model if isinstance(model, str) else _object_name(model)
        chosen = recipe_of(name, asked, images)
    if isinstance(model, nn.Module):
        zoo.preprocessing_of(model)
        zoo.check_classes(images, model)
        return Context(chosen, Path(out), images, copy.deepcopy(model))
    return Context.of(chosen, Path(out), images)


def _read(
    recipe: Recipe | str | Path | dict[str, Any],
    model: str | nn.Module | None,
    data: str | zoo.ImageData | None,
    weights: str | None,
) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, dict):
        return build_recipe(recipe)
    network = _object_name(model) if isinstance(model, nn.Module) else model
    return load_recipe(recipe, network, data.name if isinstance(data, zoo.ImageData) else data, weights)


def _replaced(
    recipe: Recipe, model: str | nn.Module | None, data: str | zoo.ImageData | None, weights: str | None
) -> Recipe:
    update: dict[str, Any] = {}
    if model is not None or weights is not None:
        name = recipe.model.name if model is None else model if isinstance(model, str) else _object_name(model)
        same = name == recipe.model.name
        update["model"] = recipe.model.model_copy(
            update={"name": name, "weights": weights or (recipe.model.weights if same else None)}
        )
    if data is not None:
        update["data"] = recipe.data.model_copy(update={"name": data if isinstance(data, str) else data.name})
    return recipe.model_copy(update=update)


def _object_name(network: nn.Module) -> str:
    return getattr(network, "zoo_name", f"{type(network).__module__}:{type(network).__qualname__}")


def census(target: str | Path | nn.Module, *, input_size: Sequence[int] | None = None) -> graph.Census:
    """Weights, nonzeros and MACs per layer of a network, an ONNX file, a run folder or a zoo name.

    input_size    (channels, height, width) where the target does not say its own
    """
    if isinstance(target, str | Path):
        path = Path(target)
        if path.is_dir() and not is_rebuildable(path / WEIGHTS_FILE):
            path = path / MODEL_FILE
        if path.suffix == ".onnx":
            return graph.census_of_onnx(path, input_shape=input_size)
        target = network_of(target)
    return sparsity.census(target, input_size)


def structure(target: str | Path | nn.Module) -> graph.StructureTable:
    """How many filters, channels, kernels, rows and columns of every weight are entirely zero."""
    return sparsity.structure(network_of(target) if isinstance(target, str | Path) else target)


def network_of(target: str | Path) -> nn.Module:
    """The network of a run folder, an artifact's weights file, or a zoo name (with random weights)."""
    path = Path(target)
    if path.is_dir():
        return load_artifact_network(path / WEIGHTS_FILE)
    if path.suffix == ".safetensors":
        return load_artifact_network(path)
    if path.suffix in (".onnx", ".pth", ".pt", ".th"):
        raise ModelError(f"{target}: a file of that kind does not say which network it belongs to.")
    return zoo.model(str(target))


def sensitivity(
    model: str | nn.Module,
    data: str | zoo.ImageData = "digits",
    *,
    out: str | Path = "sensitivity",
    weights: str | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> sparsity.SensitivityTable:
    """Prune every layer alone to every level and see how much worse the network gets; nothing is retrained.

    model        a network, a name, a run folder, or the weights file of one
    out          gets sensitivity.json, .csv, .png and .svg; an analysis that was stopped goes on
    weights      of a name: "pretrained", a file, or "none"; by default the library's own
    settings     the fields of secateur.pipeline.sensitivity.SensitivitySettings (pattern, levels, measure, ...)
    raises       SecateurError
    """
    known = [field.name for field in fields(SensitivitySettings)]
    for name in settings:
        if name not in known:
            raise RecipeError(unknown("setting", name, known))
    chosen = SensitivitySettings(**settings)
    images = zoo.data(data) if isinstance(data, str) else data
    network = model if isinstance(model, nn.Module) else _trained(model, weights, images)
    if chosen.measure != "output_error":
        zoo.check_classes(images, network)
    table = analyse_sensitivity(network, images, out, chosen, overwrite=overwrite)
    write_sensitivity_chart(table, Path(out) / "sensitivity.png", Path(out) / "sensitivity.svg")
    return table


def _trained(target: str, weights: str | None, images: zoo.ImageData) -> nn.Module:
    """The network that a run folder, a weights file or a name means, with weights worth looking at."""
    if weights is None and (Path(target).is_dir() or Path(target).suffix == ".safetensors"):
        return network_of(target)
    published = any(name == target and pretrained for name, _, pretrained in zoo.model_sources(target))
    if weights is None and not published and ":" not in target:
        raise RecipeError(
            f"{target}: no weights are published for it; give a .safetensors or .pth file as weights, or 'none'."
        )
    return build_network(
        Model(name=target, weights=weights or ("pretrained" if published else None)), Data(), images, 0
    )


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
    asked = _options(SparsifyOptions, options)
    started = command or "secateur.sparsify(...)"
    job = _onnx_job(model, images, data, asked, model_name, preprocessing)
    if job is not None:
        return sparsify_onnx(job, Path(out), overwrite=overwrite, command=started)
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
    asked = _options(SparsifyOptions, options)
    job = _onnx_job(model, images, data, asked, model_name, preprocessing)
    if job is not None:
        return preview_onnx(job)
    only = {"model_name": model_name, "preprocessing": preprocessing}
    return describe(_sparsify_context(model, images, data, asked, Path(out), only))


def _options(kind: type[_Kind], options: dict[str, Any]) -> _Kind:
    """raises RecipeError for an option that there is not"""
    known = [field.name for field in fields(kind)]
    for name in options:
        if name not in known:
            raise RecipeError(unknown("option", name, known))
    return kind(**options)


def _file_alone(model: str | Path | nn.Module) -> Path | None:
    """The ONNX file; None for a torch network, its name, and a run folder that can build its network."""
    file = _onnx_of(model)
    return None if file is None or (file.parent == Path(str(model)) and _rebuildable(file.parent)) else file


def _torch_network(model: str | Path | nn.Module, onnx_only: dict[str, str | None]) -> tuple[str, nn.Module | None]:
    """(name, network); None for the zoo's network of that name. raises RecipeError for options of ONNX files"""
    for key, value in onnx_only.items():
        if value is not None:
            raise RecipeError(f"{key} is for ONNX files; a torch network knows how its images are prepared.")
    network: nn.Module | None = None
    if isinstance(model, nn.Module):
        network = copy.deepcopy(model)
    elif Path(model).is_dir() or Path(model).suffix in (".safetensors", ".pth", ".pt", ".th"):
        network = network_of(model)
    return (str(model) if network is None else _object_name(network)), network


def _rebuildable(folder: Path) -> bool:
    return (folder / WEIGHTS_FILE).is_file() and is_rebuildable(folder / WEIGHTS_FILE)


def _onnx_job(
    model: str | Path | nn.Module,
    images: str | Path | zoo.ImageData | None,
    data: str | zoo.ImageData | None,
    options: SparsifyOptions,
    model_name: str | None,
    preprocessing: str | None,
) -> OnnxJob | None:
    file = _file_alone(model)
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
    name, network = _torch_network(model, onnx_only)
    return torch_job(name, network, images_of(images, data, options), options, out)


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
    asked = _options(QuantizeOptions, options)
    started = command or "secateur.quantize(...)"
    file = _file_alone(model)
    if file is not None:
        job = quantize_job(file, images_of(images, data, asked), asked, model_name, preprocessing)
        return quantize_onnx(job, Path(out), overwrite=overwrite, command=started)
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
    asked = _options(QuantizeOptions, options)
    file = _file_alone(model)
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
    name, network = _torch_network(model, onnx_only)
    found = images_of(images, data, options)

    def recipe(weights: str | None, judged: zoo.ImageData, calibration: str | None) -> Recipe:
        return quantize_recipe(name, replace(options, weights=weights), found.name, judged, calibration)

    return start_run(name, network, found, options, out, recipe)


def frontier(
    model: str | Path | nn.Module,
    images: str | Path | zoo.ImageData | None = None,
    *,
    data: str | zoo.ImageData | None = None,
    out: str | Path = "frontier",
    against: Sequence[str] = ("sparsity", "macs"),
    zeros: Sequence[float] = ZEROS,
    second_pass: bool = False,
    **options: Any,
) -> Frontier:
    """What zeros cost along many targets: one database of all layers, then a network for every target in seconds.

    model          a name, a run folder, or a trained torch network, which stays as it is
    images, data   as in `sparsify`; with labels accuracy is measured, without them the distance to the dense network
    out            gets frontier.json, .png and .svg; a call that was stopped goes on, more points take their own time
    against        sparsity, parameters, macs, bytes, seconds (of our engine, measured here)
    zeros          fractions of zeros, and of a cost that goes
    second_pass    compress every point again with the inputs that pruned layers give: better, and slower
    options        fields of SparsifyOptions (pattern, images_count, exclude, ...)
    raises         SecateurError
    """
    if _onnx_of(model) is not None and not _rebuildable(Path(str(model))):
        raise RecipeError("a frontier is drawn of torch networks; `secateur sparsify` takes ONNX files.")
    asked = _options(SparsifyOptions, options | {"second_pass": second_pass})
    settings = FrontierSettings(tuple(against), tuple(zeros))
    context = _sparsify_context(model, images, data, asked, Path(out), {})
    stage = next(stage for stage in context.recipe.stages if isinstance(stage, PosttrainingStage))
    found = draw_frontier(context, stage, settings)
    title = f"{context.recipe.model.name}, {', '.join(stage.patterns)}, {stage.images} images without labels"
    write_frontier_chart(found, Path(out) / "frontier.png", Path(out) / "frontier.svg", title=title)
    return found


def thin(
    target: str | Path | nn.Module, out: str | Path, *, input_size: Sequence[int] | None = None
) -> channels.RemovalPlan:
    """Write a network without the channels that it computes for nothing, and return what went; its function stays.

    target        an ONNX file from any tool, a run folder, or a torch network, which stays as it is
    out           the ONNX file to write
    input_size    (channels, height, width) where the target does not say its own
    raises        ModelError, SparsityError, ExportError
    """
    source = _onnx_of(target)
    if source is not None:
        found = channels.thin_plan_onnx(source, input_size)
        channels.remove_channels_onnx(source, out, found, input_size=input_size)
        return found
    network = folded_copy(target if isinstance(target, nn.Module) else network_of(target))
    found = channels.thin_plan(network, input_size)
    return _removed(network, found, out, input_size)


def prune_channels(
    target: str | Path | nn.Module,
    out: str | Path,
    fraction: float = 0.5,
    *,
    plan: channels.RemovalPlan | None = None,
    input_size: Sequence[int] | None = None,
    **options: Any,
) -> channels.RemovalPlan:
    """Write a network without its least important channels, and return what went. Training it again is up to you.

    target        an ONNX file from any tool, a run folder, or a torch network, which stays as it is
    out           the ONNX file to write
    fraction      of `base` that goes
    plan          one that was made before, on this network or on the one that it was exported from; nothing is chosen
    options       base (macs, parameters, channels), scope (uniform, global), criterion (l1, l2, ...), normalize,
                  consumers, leader, ratios, exclude, round_to, min_channels: see secateur.channels.plan_channels
    raises        ModelError, SparsityError, ExportError
    """
    source = _onnx_of(target)
    if source is not None:
        found = plan or channels.plan_channels_onnx(source, fraction, input_size, **options)
        channels.remove_channels_onnx(source, out, found, input_size=input_size)
        return found
    network = folded_copy(target if isinstance(target, nn.Module) else network_of(target))
    found = plan or channels.plan_channels(network, fraction, input_size, **options)
    return _removed(network, found, out, input_size)


def _onnx_of(target: str | Path | nn.Module) -> Path | None:
    """The ONNX file that a target means; None for a torch network and its name."""
    if isinstance(target, nn.Module):
        return None
    path = Path(target)
    path = path / MODEL_FILE if path.is_dir() else path
    return path if path.suffix == ".onnx" else None


def _removed(
    network: nn.Module, plan: channels.RemovalPlan, out: str | Path, input_size: Sequence[int] | None
) -> channels.RemovalPlan:
    channels.remove_channels_(network, plan)
    write_onnx(network, out, input_size or zoo.preprocessing_of(network).input_size)
    return plan


def export_onnx(model: nn.Module, path: str | Path, *, images: Any = None, **options: Any) -> Path:
    """Write a torch network as ONNX; with `images` (batches) also check that ONNX Runtime computes the same.

    options    dynamic_batch, batch, opset
    raises     ExportError
    """
    written = write_onnx(model, path, zoo.preprocessing_of(model).input_size, **options)
    if images is not None:
        check_onnx(model, written, images)
    return written


def evaluate(model: nn.Module, data: str | zoo.ImageData = "digits", *, limit: int | None = None) -> training.Accuracy:
    """Top-1, top-5 and loss of a torch network on test images."""
    images = zoo.data(data) if isinstance(data, str) else data
    return training.evaluate(model, images, zoo.preprocessing_of(model), limit=limit)


__all__ = [
    "Options",
    "Result",
    "census",
    "compress",
    "evaluate",
    "export_onnx",
    "network_of",
    "plan",
    "prepare",
    "preview_quantize",
    "preview_sparsify",
    "prune_channels",
    "quantize",
    "quantize_",
    "sensitivity",
    "sparsify",
    "structure",
    "thin",
    "write_report",
]
