"""Stage `thin`: take out the channels that are entirely zero."""

from typing import Any

from secateur.channels import remove_channels_, thin_plan
from secateur.pipeline.context import Context, stage_handlers
from secateur.pipeline.removals import note_removal_
from secateur.progress import say
from secateur.recipe import ThinStage


@stage_handlers.register("thin")
def thin_stage(context: Context, stage: ThinStage) -> dict[str, Any]:
    """returns    the removal plan, in a list as other stages that remove channels have several"""
    context.keep_dense()
    plan = thin_plan(context.network, context.preprocessing.input_size, shift=stage.shift)
    remove_channels_(context.network, plan)
    note_removal_(context.network, plan)
    say(
        f"thin: {plan.removed} channels, parameters {plan.parameters_before:,} -> {plan.parameters_after:,}, "
        f"MACs {plan.macs_before:,} -> {plan.macs_after:,}"
    )
    return {"removals": [plan.to_dict()]}
