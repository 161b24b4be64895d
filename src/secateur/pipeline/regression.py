"""Layer-wise regression as a recipe asks for it: between the choice of all masks and the training."""

from collections.abc import Iterable
from pathlib import Path

from secateur import zoo
from secateur.errors import RecipeError
from secateur.pipeline.context import Context
from secateur.progress import say
from secateur.recipe import MaskRule, OneShot, SparsifyPart, SparsifyStage
from secateur.training import distributed
from secateur.training.loop import CHECKPOINT
from secateur.training.regression import regress_


def check_regression(stage: SparsifyStage, parts: Iterable[SparsifyPart]) -> None:
    """raises RecipeError unless all masks are there before the training, and stay."""
    if stage.regression is None or not stage.training.epochs:
        return
    if stage.method is not None or any(
        not isinstance(part.schedule, OneShot) or part.mask != MaskRule() for part in parts
    ):
        raise RecipeError(
            "stage 'sparsify': regression fits layers whose masks stay as they are; it needs schedule: one_shot in "
            "every part, the plain mask rule and no method."
        )


def regress_layers(context: Context, stage: SparsifyStage, layers: Iterable[str], folder: Path) -> None:
    """Fit layers that have their masks to the dense network, where the recipe asks for it.

    folder    of the training that follows; once that has begun, its checkpoint knows better, and nothing is done
    """
    config, data = stage.regression, context.recipe.data
    if config is None or context.dense is None or (folder / CHECKPOINT).exists():
        return
    batches = zoo.loader(
        context.images,
        "train",
        context.preprocessing,
        batch_size=distributed.share_of(stage.training.batch_size),
        seed=context.recipe.seed,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        workers=data.workers,
        limit=data.train_limit,
    )
    rows = regress_(
        context.network,
        context.dense,
        batches,
        layers=layers,
        iterations=config.iterations,
        learning_rate=config.learning_rate,
    )
    better = sum(row.after < row.before for row in rows)
    say(f"sparsify: {better} of {len(rows)} layers are nearer to the dense ones after {config.iterations} iterations")
