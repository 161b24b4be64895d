"""Making a network sparse at once: plan the levels, then choose the masks."""

from typing import Any

from torch import nn

from secateur.sparsity.allocation import AllocationBase
from secateur.sparsity.pattern import Pattern
from secateur.sparsity.plan import SparsityPlan
from secateur.sparsity.planning import plan_sparsity
from secateur.sparsity.sparsifier import Sparsifier


def sparsify_(
    model: nn.Module,
    sparsity: float | None = 0.8,
    pattern: str | Pattern = "1x4",
    criterion: str = "magnitude",
    allocation: str = "uniform",
    base: AllocationBase = "conv_linear",
    *,
    seed: int = 0,
    **options: Any,
) -> SparsityPlan:
    """Remove weights of `model` at once; masks stay attached, so that training keeps the zeros.

    sparsity   None where the pattern or the allocation decides
    options    as in `plan_sparsity`
    returns    the plan that was carried out; `fold_masks_` makes the zeros permanent
    raises     SparsityError
    """
    plan = plan_sparsity(model, sparsity, pattern, criterion, allocation, base, **options)
    Sparsifier(model, plan, seed=seed).update_(0)
    return plan
