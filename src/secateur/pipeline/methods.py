"""Ways of training that choose the masks themselves, and what else a stage asks of the training."""

from collections.abc import Callable, Mapping
from typing import Any

from secateur.recipe import AcDc, Admm, FinetuneStage, ProbMask, RigL, SparsifyPart, SparsifyStage, Str
from secateur.sparsity import SparsityPlan
from secateur.training.hooks import Hook
from secateur.training.methods import AcDcPhases, AdmmPull, DropAndGrow, LearnedThresholds, MaskProbabilities
from secateur.training.regularize import Regularization

METHODS: dict[type, Callable[[SparsityPlan, Any], Hook]] = {
    RigL: DropAndGrow,
    AcDc: AcDcPhases,
    ProbMask: MaskProbabilities,
    Str: LearnedThresholds,
    Admm: AdmmPull,
}


def chosen_by_hook(stage: SparsifyStage, part: SparsifyPart) -> bool:
    """Whether the way of training chooses the masks of a part, and no sparsifier; without training there is none."""
    return stage.training.epochs > 0 and (stage.method is not None or type(part.schedule) in METHODS)


def hooks_of(
    stage: SparsifyStage | FinetuneStage, parts: Mapping[int, tuple[SparsifyPart, SparsityPlan]] | None = None
) -> list[Hook]:
    """The hooks that a stage trains with: one for each part whose masks the training chooses, and the regularisers."""
    hooks: list[Hook] = []
    for part, plan in (parts or {}).values():
        if isinstance(stage, SparsifyStage) and chosen_by_hook(stage, part):
            config = part.schedule if stage.method is None else stage.method
            hooks.append(METHODS[type(config)](plan, config))
    return [*hooks, *map(Regularization, stage.regularize)]
