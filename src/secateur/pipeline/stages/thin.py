"""Stage `thin`: take out the channels that are entirely zero, and the residual branches that add nothing."""

from typing import Any

from secateur.channels import BranchPlan, RemovalPlan, idle_branches, remove_channels_, thin_plan
from secateur.channels.plan import ZEROS
from secateur.pipeline.context import Context, stage_handlers
from secateur.pipeline.removals import note_removal_
from secateur.progress import say
from secateur.recipe import ThinStage
from secateur.sparsity import census


@stage_handlers.register("thin")
def thin_stage(context: Context, stage: ThinStage) -> dict[str, Any]:
    """returns    the plan of branches where some go, and that of channels"""
    context.keep_dense()
    plans: list[BranchPlan | RemovalPlan] = []
    if idle := idle_branches(context.network, context.preprocessing.input_size):
        counts = census(context.network, context.preprocessing.input_size)
        branches = BranchPlan.of_none(0.0, ZEROS, counts.parameters, counts.macs)
        for branch in idle:
            branches = branches.without(branch)
        branches.apply_(context.network)
        note_removal_(context.network, branches)
        plans.append(branches)
        say(f"thin: {len(idle)} residual branches add nothing and are gone")
    plan = thin_plan(context.network, context.preprocessing.input_size, shift=stage.shift)
    remove_channels_(context.network, plan)
    note_removal_(context.network, plan)
    say(
        f"thin: {plan.removed} channels, parameters {plan.parameters_before:,} -> {plan.parameters_after:,}, "
        f"MACs {plan.macs_before:,} -> {plan.macs_after:,}"
    )
    return {"removals": [each.to_dict() for each in (*plans, plan)]}
