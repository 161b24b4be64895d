"""What can be known to be wrong before hours of training is said before them."""

from dataclasses import dataclass, field

import secateur.pipeline.torch_runtimes  # noqa: F401  (registers torch and torch.compile)
from secateur.channels import Branch, RemovalPlan
from secateur.errors import DataError, RecipeError
from secateur.export.tflite import tflite_missing
from secateur.measure import runtimes
from secateur.pipeline.branch_choice import branches_that_may_go
from secateur.pipeline.channel_choice import preview_of
from secateur.pipeline.channel_search import check_channel_search
from secateur.pipeline.context import Context
from secateur.pipeline.level_search import check_level_search
from secateur.pipeline.methods import check_methods
from secateur.pipeline.parts import check_timing, parts_of, plans_of
from secateur.pipeline.posttraining.images import source_of
from secateur.pipeline.posttraining.preview import check_posttraining
from secateur.pipeline.quantization.preview import check_quantize
from secateur.pipeline.regression import check_regression
from secateur.pipeline.reorder import check_orders
from secateur.recipe import (
    BenchmarkStage,
    EvaluateStage,
    ExportStage,
    FinetuneStage,
    PosttrainingStage,
    QuantizeStage,
    RemoveBranchesStage,
    RemoveChannelsStage,
    SparsifyStage,
    ThinStage,
    TrainStage,
)
from secateur.sparsity import SparsityPlan, layers_of

REMOVES = (RemoveChannelsStage, RemoveBranchesStage, ThinStage)
# What changes the network that `quantize` has quantized.
CHANGES = (TrainStage, SparsifyStage, PosttrainingStage, *REMOVES, FinetuneStage)


@dataclass(frozen=True)
class Checked:
    """What a recipe will do, by the place of the stage, where that can be known before it runs.

    zeros       the plans of the parts of stages that make zeros
    removals    the channels that stages would take out in one round
    branches    the residual branches that stages may choose from
    """

    zeros: dict[int, tuple[SparsityPlan, ...]] = field(default_factory=dict[int, tuple[SparsityPlan, ...]])
    removals: dict[int, RemovalPlan] = field(default_factory=dict[int, RemovalPlan])
    branches: dict[int, list[Branch]] = field(default_factory=dict[int, list[Branch]])


def check_recipe(context: Context) -> Checked:
    """Plan every sparsify stage, find every runtime, and see that stages come in an order that can work.

    raises    RecipeError, SparsityError  with what the stage itself would say later
    """
    exported, whole, quantized = False, True, False
    checked = Checked()
    for index, stage in enumerate(context.recipe.stages):
        if isinstance(stage, SparsifyStage):
            check_orders(stage)
            check_level_search(context, stage)
            checked.zeros[index] = plans_of(context, stage)
            for part, plan in zip(parts_of(stage), checked.zeros[index], strict=True):
                check_timing(context, part, stage.training, plan)
                check_methods(stage, part, plan)
            check_regression(stage, parts_of(stage))
        if isinstance(stage, RemoveChannelsStage) and whole:
            checked.removals[index] = preview_of(context, stage)
            check_channel_search(context, stage)
        if isinstance(stage, RemoveBranchesStage) and whole:
            checked.branches[index] = branches_that_may_go(context, stage)[0]
            context.images.split("train")
        if isinstance(stage, PosttrainingStage) and whole:
            check_posttraining(layers_of(context.network), stage)
            source_of(context.images, stage)
        if isinstance(stage, QuantizeStage):
            check_quantize(stage)
            source_of(context.images, stage)
        elif quantized and isinstance(stage, CHANGES):
            raise RecipeError(
                f"stage '{stage.stage}' comes after 'quantize' and would change the network of its file; quantize last."
            )
        quantized = quantized or isinstance(stage, QuantizeStage)
        if isinstance(stage, EvaluateStage) and not context.images.labelled:
            raise DataError(
                f"{context.images.name}: has no labels, so that no accuracy can be measured; leave the stage "
                "'evaluate' out, or give images in class folders (imagefolder:DIR)."
            )
        # What is left after channels or branches went cannot be known before.
        whole = whole and not isinstance(stage, REMOVES)
        if isinstance(stage, BenchmarkStage):
            for name in stage.runtimes:
                _ = runtimes[name]
            if not exported:
                raise RecipeError("stage 'benchmark' has nothing to measure; a stage 'export' must come first.")
        if isinstance(stage, ExportStage) and stage.tflite and (missing := tflite_missing()):
            raise RecipeError(f"stage 'export' with tflite: {missing}")
        exported = exported or isinstance(stage, ExportStage)
    return checked
