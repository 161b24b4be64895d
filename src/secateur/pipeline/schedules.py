"""From a recipe's schedule to one without open ends: what the recipe leaves out depends on the training."""

import math
from dataclasses import replace

from torch import nn

from secateur import recipe, sparsity, zoo
from secateur.errors import RecipeError
from secateur.pipeline.context import Context
from secateur.recipe import SparsifyPart, Training
from secateur.sparsity import ThresholdRule, layers_of, match_layers

# A gradual schedule ends early enough that the kept weights have time to adapt to the last zeros.
SHARE_OF_RUN_WITH_RISING_SPARSITY = 0.6
INITIAL_SPARSITY = 0.05

BY_THRESHOLD = (recipe.Thresholds, recipe.Splice, recipe.Baidu)
RAMPS = {
    "linear": sparsity.Linear,
    "polynomial": sparsity.Polynomial,
    "exponential": sparsity.Exponential,
    "cosine": sparsity.Cosine,
}


def schedule_of(context: Context, part: SparsifyPart, training: Training, target: float) -> sparsity.Schedule:
    """The schedule of a part that has levels. raises RecipeError, SparsityError."""
    asked, epochs = part.schedule, training.epochs
    if target == 0 or not epochs:
        return sparsity.OneShot(target)
    match asked:
        case recipe.AgpIterations():
            total = epochs * steps_per_epoch(context, training)
            return sparsity.AgpIterations(total, target, asked.begin, asked.end, asked.exponent, asked.every)
        case recipe.AgpEpochs():
            # A recipe that does not insist on an end, with too few epochs for a ramp, gets all zeros at the start.
            if asked.end is None and asked.start == 0 and epochs <= asked.every:
                return sparsity.OneShot(target)
            end = _end(asked, epochs, "epoch")
            initial = min(INITIAL_SPARSITY, target / 2) if asked.initial is None else asked.initial
            return sparsity.AgpEpochs(asked.start, end, asked.every, initial, target)
        case recipe.Ramp():
            return _ramp(
                asked, target, epochs if asked.unit == "epoch" else epochs * steps_per_epoch(context, training)
            )
        case recipe.FixedLevels():
            _check_end(max(asked.at) + 1, epochs, "epoch")
            return sparsity.FixedLevels(target, asked.at)
        case recipe.RandomLevel():
            _check_end(asked.end, epochs, "epoch")
            return sparsity.RandomLevel(asked.low, asked.high, asked.start, asked.end, asked.every, context.recipe.seed)
        case _:
            return sparsity.OneShot(target)


def thresholds_of(network: nn.Module, part: SparsifyPart, training: Training) -> ThresholdRule:
    """The rule of a part whose weights decide themselves. raises RecipeError, SparsityError."""
    asked, epochs = part.schedule, training.epochs
    if not isinstance(asked, BY_THRESHOLD):
        raise RecipeError(f"schedule {asked.kind} has levels and no thresholds.")
    if asked.end is not None and epochs:
        _check_end(asked.end, epochs, "epoch")
    match asked:
        case recipe.Thresholds():
            rule = (
                sparsity.FixedThresholds(thresholds=by_layer(network, asked.thresholds))
                if asked.thresholds
                else sparsity.Sensitivities(sensitivities=by_layer(network, asked.sensitivities))
            )
            rule = replace(rule, of=asked.of)
        case recipe.Splice():
            rule = sparsity.SpliceRule(
                sensitivities=by_layer(network, asked.sensitivities),
                low=asked.low,
                high=asked.high,
                growth=asked.growth,
            )
        case recipe.Baidu():
            return sparsity.BaiduRamp(
                q=asked.q,
                offset=asked.offset,
                slope_mult=asked.slope_mult,
                start=asked.start,
                end=asked.end,
                every=asked.every,
            )
    return replace(rule, start=asked.start, end=asked.end or max(epochs, asked.start + 1), every=asked.every)


def by_layer(network: nn.Module, globs: dict[str, float]) -> dict[str, float]:
    """Name -> number of every layer that a glob means; later ones override earlier ones, and all of them `*`.

    raises    SparsityError  a glob that matches nothing
    """
    layers = layers_of(network)
    ordered = sorted(globs.items(), key=lambda item: item[0] != "*")
    return {name: value for glob, value in ordered for name in match_layers(layers, glob)}


def steps_per_epoch(context: Context, training: Training) -> int:
    """Batches of an epoch."""
    batches = zoo.loader(
        context.images,
        "train",
        context.preprocessing,
        batch_size=training.batch_size,
        limit=context.recipe.data.train_limit,
    )
    return len(batches)


def _ramp(asked: recipe.Ramp, target: float, run: int) -> sparsity.Schedule:
    if asked.kind == "cubic_steps" and asked.steps is not None:
        steps = sparsity.CubicSteps(
            asked.start, asked.every, asked.steps, asked.initial, target, asked.last_step, asked.unit
        )
        _check_end(steps.end, run, asked.unit)
        return steps
    if asked.end is None and asked.start == 0 and run <= asked.every:
        return sparsity.OneShot(target)
    end = _end(asked, run, asked.unit)
    place = (asked.start, end, asked.every, asked.initial, target, asked.unit)
    if asked.kind == "polynomial":
        return sparsity.Polynomial(*place, asked.exponent)
    if asked.kind == "cubic_steps":
        rises = (end - asked.start - 1) // asked.every
        steps = rises if asked.last_step == "n" else rises + 1
        return sparsity.CubicSteps(asked.start, asked.every, steps, asked.initial, target, asked.last_step, asked.unit)
    return RAMPS[asked.kind](*place)


def _end(asked: recipe.AgpEpochs | recipe.Ramp, run: int, unit: str) -> int:
    shortest = asked.start + asked.every + 1
    end = asked.end or max(shortest, math.ceil(SHARE_OF_RUN_WITH_RISING_SPARSITY * run))
    _check_end(end, run, unit)
    return end


def _check_end(end: int, run: int, unit: str) -> None:
    if end > run:
        raise RecipeError(
            f"stage 'sparsify': the schedule ends at {unit} {end}, but training has only {run} {unit}s; "
            f"give training more epochs, or the schedule an earlier end."
        )
