"""Stage `sparsify`: remove weights, at once or while the rest is trained.

    all layers at once       one training, in which every part has its plan and chooses its masks
    groups of n layers       prune n layers, train, prune the next n, train, ...: a training for each group, with the
                             masks of the groups before as they are

Source of the groups: PocketFlow (group fine-tuning).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateur.pipeline.context import Context, stage_handlers
from secateur.pipeline.level_search import searched
from secateur.pipeline.methods import chosen_by_hook, hooks_of
from secateur.pipeline.parts import keeper_of, parts_of, plans_of
from secateur.pipeline.regression import regress_layers
from secateur.pipeline.reorder import reorder_
from secateur.pipeline.schedules import BY_THRESHOLD
from secateur.pipeline.stages.train import train_network
from secateur.progress import say
from secateur.recipe import SparsifyStage
from secateur.sparsity import SparsityPlan
from secateur.sparsity.parts import in_groups, totals
from secateur.sparsity.threshold_sparsifier import reached


@stage_handlers.register("sparsify")
def sparsify_stage(context: Context, stage: SparsifyStage) -> dict[str, Any]:
    """returns    the plan of every part, new orders of channels, the rows of the history (none without epochs), and
    what searches have found (none without any)
    """
    orders = reorder_(context, stage)
    context.keep_dense()
    stage, searches = searched(context, stage)
    plans = plans_of(context, stage)
    for plan in plans:
        say(f"sparsify: {plan.pattern} {100 * plan.achieved:.2f} % of {plan.base}, {len(plan.levels)} layers")
    if len(plans) > 1:
        zeros, weights = totals(plans)
        say(f"sparsify: all parts {zeros:,} of {weights:,} weights of the network, {100 * zeros / weights:.2f} %")
    history: list[dict[str, Any]] = []
    if stage.groups is None or not stage.training.epochs:
        history = _prune(context, stage, dict(enumerate(plans)), context.stage_folder)
    else:
        for number, group in enumerate(in_groups(plans, stage.groups), 1):
            say(f"sparsify: group {number}, {', '.join(name for plan in group.values() for name in plan.levels)}")
            rows = _prune(context, stage, group, context.stage_folder / f"group-{number:02d}")
            history += [row | {"epoch": len(history) + place} for place, row in enumerate(rows)]
    carried_out = [
        reached(context.network, plan)
        if isinstance(part.schedule, BY_THRESHOLD) or chosen_by_hook(stage, part)
        else plan
        for part, plan in zip(parts_of(stage), plans, strict=True)
    ]
    result = {"plans": [plan.to_dict() for plan in carried_out], "orders": orders, "history": history}
    return result | ({"searches": searches} if searches else {})


def _prune(
    context: Context, stage: SparsifyStage, plans: Mapping[int, SparsityPlan], folder: Path
) -> list[dict[str, Any]]:
    """Carry out what is planned for some parts, by number; returns the rows of the history."""
    parts = parts_of(stage)
    keepers = [
        keeper_of(context, parts[number], stage.training, plan)
        for number, plan in plans.items()
        if not chosen_by_hook(stage, parts[number])
    ]
    if not stage.training.epochs or stage.regression is not None:
        for keeper in keepers:
            keeper.choose_(keeper.timing.first)
            keeper.settle_()
        regress_layers(context, stage, [name for plan in plans.values() for name in plan.levels], folder)
        keepers = []  # the masks stay as they are
    if not stage.training.epochs:
        return []
    hooks = hooks_of(stage, {number: (parts[number], plan) for number, plan in plans.items()})
    return train_network(context, stage, keepers, hooks, folder)
