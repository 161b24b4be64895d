"""Whole runs: a recipe, or the handful of options that make one, carried out stage after stage."""

import copy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import nn

import secateur.pipeline.torch_runtimes  # noqa: F401  (registers torch and torch.compile)
from secateur import zoo
from secateur.api.targets import object_name
from secateur.errors import RecipeError
from secateur.export import folded_copy
from secateur.pipeline import Context, RunRecord, build_images, run_recipe, stage_handlers
from secateur.pipeline.dry_run import describe
from secateur.pipeline.options import Options, data_of, recipe_of
from secateur.recipe import Recipe, ReportStage, build_recipe, load_recipe
from secateur.registry import unknown
from secateur.report import write_report


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
        name = model if isinstance(model, str) else object_name(model)
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
    network = object_name(model) if isinstance(model, nn.Module) else model
    return load_recipe(recipe, network, data.name if isinstance(data, zoo.ImageData) else data, weights)


def _replaced(
    recipe: Recipe, model: str | nn.Module | None, data: str | zoo.ImageData | None, weights: str | None
) -> Recipe:
    update: dict[str, Any] = {}
    if model is not None or weights is not None:
        name = recipe.model.name if model is None else model if isinstance(model, str) else object_name(model)
        same = name == recipe.model.name
        update["model"] = recipe.model.model_copy(
            update={"name": name, "weights": weights or (recipe.model.weights if same else None)}
        )
    if data is not None:
        update["data"] = recipe.data.model_copy(update={"name": data if isinstance(data, str) else data.name})
    return recipe.model_copy(update=update)
