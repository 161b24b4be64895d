"""Stage `remove_channels`: take whole channels out, in rounds, and train what is left after each.

    target of round k of n = 1 - (1 - target)^(k/n) of the network before the stage

so that every round removes the same share of what is left. A round's plan is written before its training begins: a
killed run replays it and goes on from the checkpoint.
"""

from pathlib import Path
from typing import Any

from secateur.channels import RemovalPlan, plan_channels, remove_channels_
from secateur.files import read_json, write_json
from secateur.pipeline.context import Context, stage_handlers
from secateur.pipeline.removals import note_removal_
from secateur.pipeline.scoring import statistics_for
from secateur.pipeline.stages.train import train_network
from secateur.progress import say
from secateur.recipe import RemoveChannelsStage
from secateur.sparsity import Scoring
from secateur.sparsity.filter_scores import FilterScores

PLAN_FILE = "removal.json"


@stage_handlers.register("remove_channels")
def remove_channels_stage(context: Context, stage: RemoveChannelsStage) -> dict[str, Any]:
    """returns    the removal plan of every round, and the rows of the training history

    raises        SparsityError  a target out of reach, a glob that matches nothing
    """
    context.keep_dense()
    plans: list[RemovalPlan] = []
    history: list[dict[str, Any]] = []
    for index in range(stage.steps):
        plan = _round(context, stage, index, plans)
        remove_channels_(context.network, plan)
        note_removal_(context.network, plan)
        plans.append(plan)
        say(
            f"remove_channels: {plan.removed} channels, parameters {plan.parameters_before:,} -> "
            f"{plan.parameters_after:,}, MACs {plan.macs_before:,} -> {plan.macs_after:,}"
        )
        epochs = epochs_of(stage, index)
        if epochs:
            training = stage.training.model_copy(update={"epochs": epochs})
            rows = train_network(
                context, stage.model_copy(update={"training": training}), folder=_folder(context, stage, index)
            )
            history += [row | {"epoch": len(history) + place} for place, row in enumerate(rows)]
    return {"removals": [plan.to_dict() for plan in plans], "history": history}


def removal_of(context: Context, stage: RemoveChannelsStage, share: float) -> RemovalPlan:
    """The plan that takes `share` of the stage's base out of the network; nothing is changed. raises SparsityError."""
    scoring, network = Scoring(stage.criterion), context.network
    statistics = statistics_for(context, scoring, stage.statistics_images)
    return plan_channels(
        network,
        share,
        context.preprocessing.input_size,
        base=stage.base,
        scope=stage.scope,
        criterion=FilterScores(network, scoring, statistics, context.recipe.seed),
        normalize=stage.normalize,
        leader=stage.leader,
        ratios=stage.ratios,
        exclude=stage.exclude,
        round_to=stage.round_to,
        min_channels=stage.min_channels,
    )


def preview_of(context: Context, stage: RemoveChannelsStage) -> RemovalPlan:
    """What the stage would take out in one round, by the length of filters where its criterion looks at data.

    raises    SparsityError  a target out of reach, a glob that matches nothing
    """
    looks_at_data = Scoring(stage.criterion).needs & {"activations", "gradients"}
    shown = stage.model_copy(update={"criterion": "l2"}) if looks_at_data else stage
    return removal_of(context, shown, stage.target)


def epochs_of(stage: RemoveChannelsStage, index: int) -> int:
    """Epochs of one round: all are shared out, the last rounds get what is left over."""
    total, rounds = stage.training.epochs, stage.steps
    return (index + 1) * total // rounds - index * total // rounds


def _round(context: Context, stage: RemoveChannelsStage, index: int, before: list[RemovalPlan]) -> RemovalPlan:
    path = _folder(context, stage, index) / PLAN_FILE
    if path.is_file():
        return RemovalPlan.from_dict(read_json(path))
    wanted = (1.0 - stage.target) ** ((index + 1) / stage.steps)
    left = _left(before, stage.base)
    plan = removal_of(context, stage, max(0.0, 1.0 - wanted / left))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, plan.to_dict())
    return plan


def _left(plans: list[RemovalPlan], base: str) -> float:
    """The share of the base that earlier rounds have left."""
    share = 1.0
    for plan in plans:
        if base == "macs":
            share *= plan.macs_after / plan.macs_before
        elif base == "parameters":
            share *= plan.parameters_after / plan.parameters_before
        else:
            share *= 1.0 - plan.target
    return share


def _folder(context: Context, stage: RemoveChannelsStage, index: int) -> Path:
    return context.stage_folder if stage.steps == 1 else context.stage_folder / f"round-{index + 1}"
