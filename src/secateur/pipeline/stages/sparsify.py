"""Stage `sparsify`: remove weights, at once or while the rest is trained."""

import math
from typing import Any

from secateur import sparsity, zoo
from secateur.errors import RecipeError
from secateur.pipeline.context import Context, stage_handlers
from secateur.pipeline.scoring import scoring_of, statistics_for
from secateur.pipeline.stages.train import train_network
from secateur.progress import say
from secateur.recipe import AgpEpochs, AgpIterations, SparsifyStage
from secateur.sparsity import Sparsifier, SparsityPlan, plan_sparsity

# A gradual schedule ends early enough that the kept weights have time to adapt to the last zeros.
SHARE_OF_EPOCHS_WITH_RISING_SPARSITY = 0.6
INITIAL_SPARSITY = 0.05
DEFAULT_SPARSITY = 0.8


@stage_handlers.register("sparsify")
def sparsify_stage(context: Context, stage: SparsifyStage) -> dict[str, Any]:
    """returns    the plan, and the rows of the training history (none without epochs)"""
    context.keep_dense()
    plan = plan_of(context, stage)
    say(f"sparsify: {plan.pattern} {100 * plan.achieved:.2f} % of {plan.base}, {len(plan.levels)} layers")
    gradual = stage.training.epochs > 0
    schedule = schedule_of(context, stage, plan.sparsity) if gradual else sparsity.OneShot(plan.sparsity)
    scoring = scoring_of(stage)
    statistics = statistics_for(context, scoring, stage.statistics_images)
    sparsifier = Sparsifier(context.network, plan, schedule, scoring, context.recipe.seed, statistics)
    if not gradual:
        sparsifier.update_(0)
        return {"plan": plan.to_dict(), "history": []}
    return {"plan": plan.to_dict(), "history": train_network(context, stage, sparsifier)}


def plan_of(context: Context, stage: SparsifyStage) -> SparsityPlan:
    """Level or reason for every layer; nothing is changed. raises SparsityError, RecipeError."""
    return plan_sparsity(
        context.network,
        DEFAULT_SPARSITY if stage.sparsity is None else stage.sparsity,
        stage.pattern,
        stage.criterion,
        stage.allocation,
        stage.base,
        remainder=stage.remainder,
        include_first=stage.include_first,
        include_depthwise=stage.include_depthwise,
        include_classifier=stage.include_classifier,
        exclude=stage.exclude,
        levels=stage.levels,
        options=sparsity.AllocationOptions(cap=stage.cap),
    )


def schedule_of(context: Context, stage: SparsifyStage, target: float) -> sparsity.Schedule:
    """The schedule with everything that the recipe leaves open filled in. raises RecipeError, SparsityError."""
    asked, epochs = stage.schedule, stage.training.epochs
    if isinstance(asked, AgpIterations):
        total = epochs * _steps_per_epoch(context, stage)
        return sparsity.AgpIterations(total, target, asked.begin, asked.end, asked.exponent, asked.every)
    if not isinstance(asked, AgpEpochs) or target == 0:
        return sparsity.OneShot(target)
    # A recipe that does not insist on an end, with too few epochs for a ramp, gets all zeros at the start.
    if asked.end is None and asked.start == 0 and epochs <= asked.every:
        return sparsity.OneShot(target)
    shortest = asked.start + asked.every + 1
    end = asked.end or max(shortest, math.ceil(SHARE_OF_EPOCHS_WITH_RISING_SPARSITY * epochs))
    if end > epochs:
        raise RecipeError(
            f"stage 'sparsify': the schedule ends at epoch {end}, but training has only {epochs} epochs; "
            f"give training more epochs, or the schedule an earlier end."
        )
    initial = min(INITIAL_SPARSITY, target / 2) if asked.initial is None else asked.initial
    return sparsity.AgpEpochs(asked.start, end, asked.every, initial, target)


def _steps_per_epoch(context: Context, stage: SparsifyStage) -> int:
    batches = zoo.loader(
        context.images,
        "train",
        context.preprocessing,
        batch_size=stage.training.batch_size,
        limit=context.recipe.data.train_limit,
    )
    return len(batches)
