"""Recipe -> stages -> artifact, resumable at every step."""

from secateur.pipeline.context import Context, stage_handlers
from secateur.pipeline.network import build_images, build_network, is_rebuildable, load_artifact_network
from secateur.pipeline.parts import plan_of, plans_of
from secateur.pipeline.record import RunRecord, StageRecord, load_record
from secateur.pipeline.run import run_recipe

__all__ = [
    "Context",
    "RunRecord",
    "StageRecord",
    "build_images",
    "build_network",
    "is_rebuildable",
    "load_artifact_network",
    "load_record",
    "plan_of",
    "plans_of",
    "run_recipe",
    "stage_handlers",
]
