"""Stages `train` (the dense network) and `finetune` (the kept weights; masks stay as they are)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secateur.pipeline.context import Context, stage_handlers
from secateur.pipeline.methods import hooks_of
from secateur.recipe import (
    FinetuneStage,
    QuantizeStage,
    RemoveBranchesStage,
    RemoveChannelsStage,
    SparsifyStage,
    TrainStage,
)
from secateur.sparsity import MaskKeeper
from secateur.training import fit
from secateur.training.hooks import Hook


@stage_handlers.register("train")
def train_stage(context: Context, stage: TrainStage) -> dict[str, Any]:
    """returns    the rows of the training history"""
    return {"history": train_network(context, stage, hooks=hooks_of(stage))}


@stage_handlers.register("finetune")
def finetune_stage(context: Context, stage: FinetuneStage) -> dict[str, Any]:
    """returns    the rows of the training history"""
    return {"history": train_network(context, stage, hooks=hooks_of(stage))}


def train_network(
    context: Context,
    stage: TrainStage | FinetuneStage | SparsifyStage | RemoveChannelsStage | RemoveBranchesStage | QuantizeStage,
    sparsifiers: Sequence[MaskKeeper] = (),
    hooks: Sequence[Hook] = (),
    folder: Path | None = None,
) -> list[dict[str, Any]]:
    """Train the network of `context` as a stage asks; goes on where a killed run stopped.

    folder    of this training, for a stage with several; by default the stage's
    """
    data = context.recipe.data
    history = fit(
        context.network,
        context.images,
        stage.training,
        folder=folder or context.stage_folder,
        preprocessing=context.preprocessing,
        teacher=context.teacher(stage.distillation),
        distillation=stage.distillation,
        sparsifier=sparsifiers,
        hooks=hooks,
        seed=context.recipe.seed,
        name=stage.stage,
        workers=data.workers,
        train_limit=data.train_limit,
        test_limit=data.test_limit,
    )
    return history.to_dict()["rows"]
