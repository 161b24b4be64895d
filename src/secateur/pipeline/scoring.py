"""What a stage's criterion needs to know: options from the recipe, statistics from the training images."""

from secateur.pipeline.context import Context
from secateur.recipe import SparsifyPart
from secateur.sparsity import LayerStatistics, Scoring
from secateur.training import gather_statistics


def scoring_of(part: SparsifyPart) -> Scoring:
    """How the weights of a part are scored. raises SparsityError, RecipeError."""
    return Scoring(part.criterion, part.fold_norm, part.noise)


def statistics_for(context: Context, scoring: Scoring, images: int) -> dict[str, LayerStatistics] | None:
    """What the training images say about the network as it is now; None for criteria that look at no data.

    images    at most so many, and no more than the recipe lets the run train with
    raises    DataError
    """
    if not scoring.needs & {"activations", "gradients"}:
        return None
    limit = context.recipe.data.train_limit
    return gather_statistics(
        context.network,
        context.images,
        context.preprocessing,
        scoring.needs,
        images=images if limit is None else min(images, limit),
        workers=context.recipe.data.workers,
        seed=context.recipe.seed,
    )
