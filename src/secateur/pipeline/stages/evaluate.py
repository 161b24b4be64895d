"""Stage `evaluate`: top-1, top-5 and loss on the test images."""

import math
from dataclasses import asdict
from typing import Any

from secateur.errors import TrainingError
from secateur.pipeline.context import Context, stage_handlers
from secateur.progress import say
from secateur.recipe import EvaluateStage
from secateur.training import evaluate


@stage_handlers.register("evaluate")
def evaluate_stage(context: Context, stage: EvaluateStage) -> dict[str, Any]:
    """returns    top1 and top5 in percent, the mean loss, and on how many images"""
    data = context.recipe.data
    accuracy = evaluate(
        context.network, context.images, context.preprocessing, limit=data.test_limit, workers=data.workers
    )
    if not math.isfinite(accuracy.loss):
        raise TrainingError(
            f"the loss on the test images is {accuracy.loss}: the network's outputs are no numbers. If it was trained, "
            "it has diverged; a lower learning_rate or clip_gradient_norm may help."
        )
    say(str(accuracy))
    return asdict(accuracy)
