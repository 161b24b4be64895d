"""What a recipe would do, layer by layer, without doing it."""

from secateur.pipeline.check import check_recipe
from secateur.pipeline.context import Context
from secateur.pipeline.stages.sparsify import plan_of, schedule_of
from secateur.recipe import FinetuneStage, SparsifyStage, Training, TrainStage
from secateur.sparsity import OneShot, census


def describe(context: Context) -> str:
    """The stages of a recipe, and for each sparsify stage the plan per layer. raises SparsityError, RecipeError."""
    check_recipe(context)
    counts = census(context.network)
    images = context.images
    train = f"{len(images.train):,} training" if images.train is not None else "no training"
    lines = [
        f"model     {context.recipe.model.name}: {counts.statistics()}",
        f"images    {images.name}: {train} and {len(images.test):,} test images, {len(images.classes)} classes",
        f"input     {_listed(context.preprocessing.input_size, 'x')}, mean {_listed(context.preprocessing.mean)}, "
        f"std {_listed(context.preprocessing.std)}",
        f"folder    {context.folder} (nothing is written by a dry run)",
    ]
    for index, stage in enumerate(context.recipe.stages):
        text = f"[{index + 1}/{len(context.recipe.stages)}] {stage.stage}"
        if isinstance(stage, TrainStage | FinetuneStage | SparsifyStage):
            text += f": {_training(stage.training)}"
            if stage.distillation and stage.training.epochs:
                text += f", distillation {stage.distillation.form} at temperature {stage.distillation.temperature:g}"
        lines.append(text)
        if isinstance(stage, SparsifyStage):
            lines += ["", *_plan(context, stage), ""]
    return "\n".join(lines)


def _plan(context: Context, stage: SparsifyStage) -> list[str]:
    plan = plan_of(context, stage)
    epochs = stage.training.epochs
    schedule = schedule_of(context, stage, plan.sparsity) if epochs else OneShot(plan.sparsity)
    lines = [str(plan)]
    if schedule.unit == "epoch" and epochs and not isinstance(schedule, OneShot):
        levels = [f"{100 * schedule.sparsity_at(epoch):.1f}" for epoch in range(epochs)]
        lines.append(f"sparsity by epoch: {' '.join(levels)} %")
    else:
        lines.append(f"schedule: {schedule}")
    return lines


def _training(training: Training) -> str:
    if not training.epochs:
        return "no training"
    return (
        f"{training.epochs} epochs of {training.optimizer} at learning rate {training.learning_rate:g} "
        f"({training.decay}), {training.batch_size} images a step"
    )


def _listed(values: tuple[float, ...], between: str = " ") -> str:
    return between.join(f"{value:g}" for value in values)
