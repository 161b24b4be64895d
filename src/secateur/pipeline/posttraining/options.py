"""A recipe from a handful of options: what `secateur sparsify MODEL --images DIR --sparsity 0.6 ...` runs.

evaluate (with labels) -> posttraining -> evaluate (with labels) -> export -> benchmark (if asked) -> report
"""

from dataclasses import dataclass
from typing import Any, Literal

from secateur import zoo
from secateur.pipeline.jobs import JobOptions, recipe_with
from secateur.recipe import PosttrainingStage, Recipe, build_recipe

COSTS = ("macs", "parameters", "bytes", "seconds")


@dataclass(frozen=True)
class SparsifyOptions(JobOptions):
    """What `sparsify` can be told in a line; everything else needs a recipe.

    pattern           one or several: every layer gets the one that suits it best
    sparsity          None: what the pattern fixes, or 0.5
    macs, parameters, bytes, seconds    share of the dense network's that may remain, in place of a sparsity
    hardware          files of measured times of layers, for `seconds`
    images_count      that calibrate
    budget            seconds, or 90s, 10m, 1h
    tuning            None: where there is a budget
    benchmark         time the result in every runtime
    """

    pattern: str | tuple[str, ...] = "unstructured"
    sparsity: float | None = None
    macs: float | None = None
    parameters: float | None = None
    bytes: float | None = None
    seconds: float | None = None
    hardware: tuple[str, ...] = ()
    base: Literal["conv_linear", "selected"] = "conv_linear"
    allocation: str = "database"
    errors: Literal["loss", "output", "absolute"] = "loss"
    search: int = 0
    exclude: tuple[str, ...] = ()
    include_first: bool = False
    include_depthwise: bool = False
    include_classifier: bool = True
    permute: bool = False
    rearrange: bool = False
    weigh_outputs: bool = True
    second_pass: bool = True
    budget: float | str | None = None
    tuning: bool | None = None
    benchmark: bool = False


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
    stages = [
        *measure,
        _stage(options, calibration),
        *measure,
        {"stage": "export"},
        *([{"stage": "benchmark"}] if options.benchmark else []),
        {"stage": "report"},
    ]
    return recipe_with(stages, model, options, data)


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
        "weigh_outputs": options.weigh_outputs,
        "second_pass": options.second_pass,
        "tuning": {} if tuned else None,
        "budget": options.budget,
    }
