"""Ways of training that choose the masks themselves, and what else a stage asks of the training."""

from collections.abc import Callable, Mapping
from typing import Any

from secateur.errors import RecipeError
from secateur.recipe import (
    AcDc,
    Admm,
    FinetuneStage,
    ProbMask,
    QuantizeStage,
    Regularizer,
    RigL,
    SparsifyPart,
    SparsifyStage,
    Str,
    TrainStage,
)
from secateur.sparsity import SparsityPlan, Tiles
from secateur.training.drop_filter import DropFilters
from secateur.training.hooks import Hook
from secateur.training.methods import AcDcPhases, AdmmPull, DropAndGrow, LearnedThresholds, MaskProbabilities
from secateur.training.methods.learned_thresholds import check_training
from secateur.training.regularize import Regularization
from secateur.training.slimming import NormScalePenalty

METHODS: dict[type, Callable[[SparsityPlan, Any], Hook]] = {
    RigL: DropAndGrow,
    AcDc: AcDcPhases,
    ProbMask: MaskProbabilities,
    Str: LearnedThresholds,
    Admm: AdmmPull,
}


def chosen_by_hook(stage: SparsifyStage, part: SparsifyPart) -> bool:
    """Whether the way of training chooses the masks of a part, and no sparsifier; without training there is none.

    RigL starts from masks that a sparsifier chooses.
    """
    return stage.training.epochs > 0 and (stage.method is not None or isinstance(part.schedule, AcDc))


def check_methods(stage: SparsifyStage, part: SparsifyPart, plan: SparsityPlan) -> None:
    """raises RecipeError, TrainingError when a way of training cannot have the pattern, or two are asked for"""
    config = _config(stage, part)
    if config is None:
        return
    if stage.method is not None and type(part.schedule) in METHODS:
        raise RecipeError(
            f"stage 'sparsify': method {stage.method.kind} and schedule {part.schedule.kind} both choose the masks; "
            f"leave one of them out."
        )
    if isinstance(config, Str):
        check_training(stage.training)
    if not isinstance(config, Admm) and not isinstance(plan.pattern, Tiles):
        raise RecipeError(
            f"stage 'sparsify': {config.kind} exchanges units of weights freely, and {plan.pattern} fixes how many "
            f"stay in each group; use unstructured or a pattern of blocks, or method admm."
        )


def method_line(stage: SparsifyStage, part: SparsifyPart) -> str | None:
    """How the training chooses the masks of a part, for people; None where a schedule does."""
    config = _config(stage, part)
    if config is None:
        return None
    keys = ", ".join(
        f"{key} {value:g}" for key, value in config.model_dump(exclude={"kind"}, exclude_none=True).items()
    )
    return f"the masks are chosen while training, by {config.kind} ({keys})"


def hooks_of(
    stage: SparsifyStage | FinetuneStage | TrainStage | QuantizeStage,
    parts: Mapping[int, tuple[SparsifyPart, SparsityPlan]] | None = None,
) -> list[Hook]:
    """The hooks that a stage trains with: one for each part whose masks the training chooses, and the regularisers."""
    hooks: list[Hook] = []
    for part, plan in (parts or {}).values():
        config = _config(stage, part) if isinstance(stage, SparsifyStage) else None
        if config is not None:
            hooks.append(METHODS[type(config)](plan, config))
    return [*hooks, *map(_regularization, stage.regularize)]


def _config(stage: SparsifyStage, part: SparsifyPart) -> Any:
    """What the recipe says of the way of training that chooses a part's masks; None where there is none."""
    asked = part.schedule if stage.method is None else stage.method
    return asked if stage.training.epochs > 0 and type(asked) in METHODS else None


def _regularization(config: Regularizer) -> Hook:
    kinds: dict[str, Callable[[Regularizer], Hook]] = {"drop_filter": DropFilters, "norm_l1": NormScalePenalty}
    return kinds.get(config.kind, Regularization)(config)
