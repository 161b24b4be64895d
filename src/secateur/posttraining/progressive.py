"""Reconstruction level by level: a table of rising levels, each from the result of the one before.

    for s in table:   masks at s, from the weights as they are;   reconstruct to the original network;   report

The teacher stays the original network at every level, so that errors do not drift. What a level removed is gone: masks
are nested. Without a rule for the levels of single layers every layer gets the same.

Source: MSBench (its public code makes the previous level the teacher, and stays at one level where no allocation rule
is given: both are mended here).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from secateur.errors import PosttrainingError
from secateur.posttraining.reconstruct import Batches, Reconstruction, ReconstructOptions, checked_teacher, reconstruct_
from secateur.sparsity import Sparsifier, SparsityPlan, mask_of, masks, plan_sparsity, stored_weight
from secateur.sparsity.layers import unwrapped, weighted_modules

Planner = Callable[[nn.Module, float], SparsityPlan]


@dataclass(frozen=True)
class Level:
    """One level of the table, reached."""

    sparsity: float
    plan: SparsityPlan
    reconstruction: Reconstruction


def uniform(model: nn.Module, sparsity: float) -> SparsityPlan:
    """The same level in every layer, unstructured, as in MSBench."""
    return plan_sparsity(
        model, sparsity, "unstructured", include_first=True, include_depthwise=True, include_classifier=True
    )


def progressive_(
    model: nn.Module,
    dense: nn.Module,
    batches: Batches,
    table: Sequence[float],
    options: ReconstructOptions | None = None,
    *,
    plan: Planner = uniform,
    correct: Callable[[SparsityPlan], None] | None = None,
    after: Callable[[Level], None] | None = None,
    seconds: float | None = None,
    folder: Path | str | None = None,
) -> tuple[Level, ...]:
    """Take `model` through the levels of `table`.

    table      rising fractions
    plan       levels of all layers for one entry of the table
    correct    called when the masks of a level have been chosen, before weights are fitted
    after      called when a level is reached, with `model` as it then is: to evaluate and save it
    seconds    a time box for all levels, in equal shares; masks are always chosen
    folder     keeps every unit that is done, so that the same call goes on after a kill
    raises     PosttrainingError  a table that does not rise, and what `reconstruct_` raises
    """
    check_table(table)
    options = options or ReconstructOptions()
    # A copy: what `after` does to networks cannot reach the teacher.
    teacher = checked_teacher(unwrapped(model), unwrapped(dense))
    levels: list[Level] = []
    share = None if seconds is None else seconds / len(table)
    for sparsity in table:
        settle_(model)
        planned = plan(model, sparsity)
        Sparsifier(model, planned, seed=options.seed).update_(0)
        if correct is not None:
            correct(planned)
        found = reconstruct_(model, teacher, batches, options, plans=[planned], seconds=share, folder=folder)
        levels.append(Level(sparsity, planned, found))
        if after is not None:
            after(levels[-1])
    return tuple(levels)


def check_table(table: Sequence[float]) -> None:
    """raises PosttrainingError unless the table holds rising fractions"""
    if not table or any(not 0 <= level < 1 for level in table):
        raise PosttrainingError(f"a table lists fractions from 0 to below 1, not {list(table)}.")
    if any(later <= earlier for earlier, later in pairwise(table)):
        raise PosttrainingError(f"the levels of a table rise, because each begins where the last ended: {list(table)}.")


@torch.no_grad()
def settle_(model: nn.Module) -> None:
    """Removed weights lose the value that they have behind the mask: what comes next begins with what there is."""
    modules = weighted_modules(model)
    for name in masks(model):
        stored: Tensor = stored_weight(modules[name])
        stored.masked_fill_(~mask_of(modules[name]), 0.0)
