"""Stage `remove_branches`: take whole residual branches out, and train what is left."""

from typing import Any

from secateur.pipeline.branch_choice import choose_branches
from secateur.pipeline.context import Context, stage_handlers
from secateur.pipeline.removals import note_removal_
from secateur.pipeline.stages.train import train_network
from secateur.progress import say
from secateur.recipe import RemoveBranchesStage

PLAN_FILE = "branches.json"


@stage_handlers.register("remove_branches")
def remove_branches_stage(context: Context, stage: RemoveBranchesStage) -> dict[str, Any]:
    """returns    the plan, in a list as other stages that remove something, and the rows of the training history

    raises        SparsityError  a target out of reach, a glob that matches nothing
                  DataError      no training images
    """
    context.keep_dense()
    plan = choose_branches(context, stage, context.stage_folder / PLAN_FILE)
    plan.apply_(context.network)
    note_removal_(context.network, plan)
    (p0, p1), (m0, m1) = plan.parameters, plan.macs
    say(f"remove_branches: {len(plan.branches)} branches, parameters {p0:,} -> {p1:,}, MACs {m0:,} -> {m1:,}")
    history = train_network(context, stage) if stage.training.epochs else []
    return {"removals": [plan.to_dict()], "history": history}
