"""What can be known to be wrong before hours of training is said before them."""

import secateur.pipeline.torch_runtimes  # noqa: F401  (registers torch and torch.compile)
from secateur.errors import RecipeError
from secateur.measure import runtimes
from secateur.pipeline.context import Context
from secateur.pipeline.stages.sparsify import plan_of, schedule_of
from secateur.recipe import BenchmarkStage, ExportStage, SparsifyStage


def check_recipe(context: Context) -> None:
    """Plan every sparsify stage, find every runtime, and see that stages come in an order that can work.

    raises    RecipeError, SparsityError  with what the stage itself would say later
    """
    exported = False
    for stage in context.recipe.stages:
        if isinstance(stage, SparsifyStage):
            plan = plan_of(context, stage)
            if stage.training.epochs and context.images.train is not None:
                schedule_of(context, stage, plan.sparsity)
        if isinstance(stage, BenchmarkStage):
            for name in stage.runtimes:
                _ = runtimes[name]
            if not exported:
                raise RecipeError("stage 'benchmark' has nothing to measure; a stage 'export' must come first.")
        exported = exported or isinstance(stage, ExportStage)
