"""Stage `remove_channels`: take whole channels out, in rounds, and train what is left after each.

    target of round k of n = 1 - (1 - target)^(k/n) of the network before the stage

so that every round removes the same share of what is left. A round's plan, and the weights that make up for what goes,
are written before its training begins: a killed run replays them and goes on from the checkpoint.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from secateur.channels import RemovalPlan, refit_, remove_channels_
from secateur.export import load_weights, save_weights
from secateur.files import read_json, write_json
from secateur.pipeline.channel_choice import choose_channels
from secateur.pipeline.channel_search import search_channels
from secateur.pipeline.context import Context, stage_handlers
from secateur.pipeline.removals import note_removal_
from secateur.pipeline.stages.train import train_network
from secateur.progress import say
from secateur.recipe import RemoveChannelsStage
from secateur.training import distributed

PLAN_FILE, REFIT_FILE = "removal.json", "refit.safetensors"


@stage_handlers.register("remove_channels")
def remove_channels_stage(context: Context, stage: RemoveChannelsStage) -> dict[str, Any]:
    """returns    the removal plan of every round, and the rows of the training history

    raises        SparsityError  a target out of reach, a glob that matches nothing
    """
    context.keep_dense()
    plans: list[RemovalPlan] = []
    history: list[dict[str, Any]] = []
    for index in range(stage.steps):
        plan, weights = _round(context, stage, index, plans)
        refit_(context.network, weights)
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


def epochs_of(stage: RemoveChannelsStage, index: int) -> int:
    """Epochs of one round: all are shared out, the last rounds get what is left over."""
    total, rounds = stage.training.epochs, stage.steps
    return (index + 1) * total // rounds - index * total // rounds


def _round(
    context: Context, stage: RemoveChannelsStage, index: int, before: list[RemovalPlan]
) -> tuple[RemovalPlan, Mapping[str, Tensor]]:
    folder = _folder(context, stage, index)
    path, refit = folder / PLAN_FILE, folder / REFIT_FILE
    if path.is_file():
        return RemovalPlan.from_dict(read_json(path)), load_weights(refit)[0] if refit.is_file() else {}
    wanted = (1.0 - stage.target) ** ((index + 1) / stage.steps)
    left = _left(before, stage.base)
    if stage.search is not None:
        plan, weights = search_channels(context, stage, folder / "search")
    else:
        plan, weights = choose_channels(context, stage, max(0.0, 1.0 - wanted / left))
    if distributed.is_main():
        folder.mkdir(parents=True, exist_ok=True)
        # The plan comes last: where it is, the weights are too.
        if weights:
            save_weights(refit, weights, {})
        write_json(path, plan.to_dict())
    return plan, weights


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
