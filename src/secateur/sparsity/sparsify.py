"""Making a network sparse at once: plan the levels, then choose the masks."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from secateur.sparsity.allocation import AllocationBase
from secateur.sparsity.pattern import Pattern
from secateur.sparsity.plan import SparsityPlan
from secateur.sparsity.planning import plan_sparsity
from secateur.sparsity.scoring import Scoring
from secateur.sparsity.sparsifier import Sparsifier
from secateur.sparsity.statistics import LayerStatistics


def sparsify_(
    model: nn.Module,
    sparsity: float | None = 0.8,
    pattern: str | Pattern = "1x4",
    criterion: str | Scoring = "magnitude",
    allocation: str = "uniform",
    base: AllocationBase = "conv_linear",
    *,
    seed: int = 0,
    statistics: Mapping[str, LayerStatistics] | None = None,
    **options: Any,
) -> SparsityPlan:
    """Remove weights of `model` at once; masks stay attached, so that training keeps the zeros.

    sparsity      None where the pattern or the allocation decides
    criterion     a name, or a `Scoring` with options
    statistics    of `secateur.training.gather_statistics`, for criteria that look at data
    options       as in `plan_sparsity`
    returns       the plan that was carried out; `fold_masks_` makes the zeros permanent
    raises        SparsityError
    """
    scoring = criterion if isinstance(criterion, Scoring) else Scoring(criterion)
    plan = plan_sparsity(model, sparsity, pattern, scoring.criterion, allocation, base, **options)
    sparsifier = Sparsifier(model, plan, criterion=scoring, seed=seed, statistics=statistics)
    sparsifier.update_(0)
    sparsifier.settle_()
    return plan
