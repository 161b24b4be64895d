"""What a recipe would do, layer by layer, without doing it."""

from secateur.pipeline.check import check_recipe
from secateur.pipeline.context import Context
from secateur.pipeline.methods import method_line
from secateur.pipeline.parts import SEARCHED, parts_of
from secateur.pipeline.posttraining.preview import preview
from secateur.pipeline.quantization.preview import quantize_line
from secateur.pipeline.schedules import BY_THRESHOLD, schedule_of, thresholds_of
from secateur.recipe import (
    FinetuneStage,
    LevelSearch,
    PosttrainingStage,
    QuantizeStage,
    RemoveBranchesStage,
    RemoveChannelsStage,
    SparsifyPart,
    SparsifyStage,
    Training,
    TrainStage,
)
from secateur.sparsity import OneShot, SparsityPlan, census, layers_of
from secateur.sparsity.parts import in_groups, parts_table


def describe(context: Context) -> str:
    """The stages of a recipe, and for each sparsify stage the plan per layer. raises SparsityError, RecipeError."""
    checked = check_recipe(context)
    counts = census(context.network)
    images = context.images
    train = f"{len(images.train):,} training" if images.train is not None else "no training"
    lines = [
        f"model     {context.recipe.model.name}: {counts.statistics()}",
        f"images    {images.name}: {train} and {len(images.test):,} test images, "
        f"{f'{len(images.classes)} classes' if images.labelled else 'no labels'}",
        f"input     {_listed(context.preprocessing.input_size, 'x')}, mean {_listed(context.preprocessing.mean)}, "
        f"std {_listed(context.preprocessing.std)}",
        f"folder    {context.folder} (nothing is written by a dry run)",
    ]
    for index, stage in enumerate(context.recipe.stages):
        text = f"[{index + 1}/{len(context.recipe.stages)}] {stage.stage}"
        if isinstance(stage, TrainStage | FinetuneStage | SparsifyStage | RemoveChannelsStage | RemoveBranchesStage):
            text += f": {_training(stage.training)}"
            if stage.distillation and stage.training.epochs:
                text += f", distillation {stage.distillation.form} at temperature {stage.distillation.temperature:g}"
        lines.append(text)
        if isinstance(stage, SparsifyStage):
            lines += ["", *_plan(context, stage, checked.zeros[index]), ""]
        if isinstance(stage, PosttrainingStage):
            lines += ["", preview(layers_of(context.network), stage), ""]
        if isinstance(stage, QuantizeStage):
            lines[-1] += f": {quantize_line(stage)}"
        if isinstance(stage, RemoveBranchesStage):
            may_go = [f"{branch.name} ({branch.macs:,} MACs)" for branch in checked.branches.get(index, [])]
            lines += ["", f"{100 * stage.target:g} % of the {stage.base} in residual branches, chosen of", *may_go, ""]
        if isinstance(stage, RemoveChannelsStage):
            shown = checked.removals.get(index, "what is left after the channels before went is planned then")
            lines += ["", f"{shown}{_by_readers(stage)}", ""]
            if stage.search is not None:
                tried = stage.search.rollouts
                lines.append(f"the ratios will be searched for in {tried} roll-outs; those shown are uniform")
    return "\n".join(lines)


def _by_readers(stage: RemoveChannelsStage) -> str:
    if not stage.reconstructs:
        return ""
    solver = f" by {stage.solver}" if stage.criterion == "lasso" else ""
    fitted = "their readers are fitted to the dense outputs" if stage.refit else "their readers stay as they are"
    return (
        f"\n{stage.criterion}{solver} chooses as many of {stage.statistics_images} images, {stage.positions} positions "
        f"of each; {fitted}"
    )


def _plan(context: Context, stage: SparsifyStage, plans: tuple[SparsityPlan, ...]) -> list[str]:
    lines = [str(plans[0]) if len(plans) == 1 else parts_table(plans)]
    for number, (part, plan) in enumerate(zip(parts_of(stage), plans, strict=True), 1):
        before = f"part {number}: " if len(plans) > 1 else ""
        if part.allocation == SEARCHED:
            tried = (part.search or LevelSearch()).rollouts
            lines.append(f"{before}the levels will be searched for in {tried} roll-outs; those shown are uniform")
        lines.append(before + (method_line(stage, part) or _timing(context, part, stage.training, plan)))
    lines += [f"regularised by {each.kind} at {each.strength:g}" for each in stage.regularize if stage.training.epochs]
    if stage.regression is not None:
        lines.append(f"layers are fitted to the dense ones first, {stage.regression.iterations} iterations")
    if stage.groups is not None and stage.training.epochs:
        groups = len(in_groups(plans, stage.groups))
        lines.append(f"{groups} groups of up to {stage.groups} layers, {stage.training.epochs} epochs for each")
    return lines


def _timing(context: Context, part: SparsifyPart, training: Training, plan: SparsityPlan) -> str:
    epochs = training.epochs
    if isinstance(part.schedule, BY_THRESHOLD):
        return f"the weights decide how many zeros there are: {thresholds_of(context.network, part, training)}"
    schedule = schedule_of(context, part, training, plan.sparsity)
    if schedule.unit == "epoch" and epochs and not isinstance(schedule, OneShot):
        levels = [f"{100 * schedule.sparsity_at(epoch):.1f}" for epoch in range(epochs)]
        return f"sparsity by epoch: {' '.join(levels)} %"
    return f"schedule: {schedule}"


def _training(training: Training) -> str:
    if not training.epochs:
        return "no training"
    return (
        f"{training.epochs} epochs of {training.optimizer} at learning rate {training.learning_rate:g} "
        f"({training.decay}), {training.batch_size} images a step"
    )


def _listed(values: tuple[float, ...], between: str = " ") -> str:
    return between.join(f"{value:g}" for value in values)
