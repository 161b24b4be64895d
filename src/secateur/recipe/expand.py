"""Stages that stand for several: a table of levels becomes a stage of training for each level.

    stage n of a table of L levels trains the epochs from int(n T / L) to int((n + 1) T / L)       T epochs in all

and is followed by an evaluation and an artifact of its own, levels/NN with the level in percent. Every stage has its
learning rate from the start, and its masks are chosen before every step, so that a weight may come back.

Source: MSBench (sparsity_table of its level-pruning scheduler).
"""

from collections.abc import Iterable
from typing import cast

from secateur.errors import RecipeError
from secateur.recipe.schema import (
    EvaluateStage,
    ExportStage,
    LevelsStage,
    MaskRule,
    OneShot,
    Recipe,
    SparsifyPart,
    SparsifyStage,
    Stage,
)

# What the table says itself.
TAKEN = ("sparsity", "schedule", "levels_file")


def expanded(recipe: Recipe) -> Recipe:
    """The recipe with single stages only. raises RecipeError for a table that contradicts its other keys."""
    stages: list[Stage] = []
    for stage in recipe.stages:
        stages += levels_of(stage) if isinstance(stage, LevelsStage) else (stage,)
    return recipe.model_copy(update={"stages": tuple(stages)})


def stage_starts(total: int, stages: int) -> tuple[int, ...]:
    """First epoch or iteration of each of so many stages that share `total` evenly."""
    return tuple(number * total // stages for number in range(stages))


def levels_of(stage: LevelsStage) -> Iterable[Stage]:
    """The stages of a table of levels. raises RecipeError."""
    for part in stage.parts or (stage,):
        for key in TAKEN:
            if key in part.model_fields_set and not (key == "schedule" and isinstance(part.schedule, OneShot)):
                raise RecipeError(f"stage 'levels': its table says what '{key}' would say; leave '{key}' out.")
    total, levels = stage.training.epochs, len(stage.table)
    if 0 < total < levels:
        raise RecipeError(
            f"stage 'levels': {total} epochs cannot be shared out among {levels} levels; give one epoch for each or "
            f"more, or 0 for no training."
        )
    starts = (*stage_starts(total, levels), total)
    for number, level in enumerate(stage.table):
        yield _at(stage, level, starts[number + 1] - starts[number])
        # Kinds are given, so that they are printed where defaults are not.
        yield EvaluateStage(stage="evaluate")
        yield ExportStage(stage="export", folder=f"levels/{round(100 * level, 6):g}")


def _at(stage: LevelsStage, level: float, epochs: int) -> SparsifyStage:
    changed: dict[str, object] = {"training": stage.training.model_copy(update={"epochs": epochs})}
    if stage.parts:
        changed["parts"] = tuple(part.model_copy(update=_single(part, level)) for part in stage.parts)
    else:
        changed |= _single(stage, level)
    fields = {name: changed.get(name, getattr(stage, name)) for name in SparsifyStage.model_fields if name != "stage"}
    # The sections are made already: what is left to check is whether they go together, as in any stage.
    return SparsifyStage.model_validate({"stage": "sparsify", **fields})


def _single(part: SparsifyPart, level: float) -> dict[str, object]:
    update = part.mask.update if "update" in part.mask.model_fields_set else "every_step"
    mask = cast(MaskRule, part.mask.model_copy(update={"update": update}))
    return {"sparsity": level, "schedule": OneShot(kind="one_shot"), "mask": mask}
