"""Second-order compression of one layer: which weights go, and what the others become.

    minimise  sum over rows s (w - w^) A (w - w^)^T     over all masks of a pattern with so many zeros

    exact      units go one by one; all levels come from one sweep (`exact.py`)
    columns    masks in rounds (`column_masks.py`) and a walk over the columns (`columnwise.py`), for large layers
    polish     least squares on the mask that was found (`polish.py`)
    s          what a row's output matters to the network (`output_importance.py`); by default 1
    at last    every row is compared with itself masked and otherwise unchanged; the better one is taken

Source: Hassibi & Stork 1993; Frantar & Alistarh 2022 (exact), 2023 (column by column).
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from secateur.errors import PosttrainingError
from secateur.posttraining.column_masks import choose_masks
from secateur.posttraining.columnwise import walk_columns
from secateur.posttraining.exact import Removals, remove_all
from secateur.posttraining.gram import Gram
from secateur.posttraining.polish import is_direct, iterated, least_squares
from secateur.posttraining.problem import Compressed, Problem, problem_of
from secateur.posttraining.ranking import Ranking
from secateur.posttraining.sets import Sets, sets_of
from secateur.registry import unknown
from secateur.sparsity import Pattern, Rounding
from secateur.sparsity.pattern import checked_shape

Method = Literal["auto", "exact", "columns"]

# Multiply-adds of the exact sweep beyond which `auto` walks columns: some ten seconds of one core. At 384 x 384 columns
# take a fifth of the time, and their error, polished, is within a tenth of the exact one.
MOST_WORK = 6e9
# Below so many inputs products are cheap beside their calls, and float64 costs nothing.
DOUBLE_BELOW = 256


@torch.no_grad()
def compress_layer(
    weight: Tensor,
    gram: Gram,
    pattern: Pattern,
    levels: Sequence[float],
    *,
    method: Method = "auto",
    importance: Tensor | None = None,
    rounding: Rounding = "floor",
    polish: bool = True,
    centered: bool = False,
    damping: float = 0.01,
    progress: Callable[[], None] | None = None,
) -> list[Compressed]:
    """The layer at every level, in the order of `levels`.

    weight    filter first, (C_out, C_in/groups, kernel...) or (C_out, C_in)
    levels    fractions of the pattern's units that go
    method    auto: exact where that takes about a minute or less
    importance    (C_out,) above 0, what the squared error of every output counts when units compete
    polish    least squares on the mask; without it one round of choice and one walk over the columns, which is faster
    centered  the bias takes the mean: add `shift` to it
    progress  is called after every level
    raises    PosttrainingError  weight and Gram matrix of different layers, damaged ones; SparsityError  a pattern
              that does not apply, a level that it cannot reach
    """
    if method not in get_args(Method):
        raise PosttrainingError(unknown("method", method, get_args(Method)))
    problem = problem_of(weight, gram, importance=importance, centered=centered, damping=damping)
    checked_shape(weight, pattern, gram.groups)
    sets = sets_of(pattern, problem.shape, gram.groups)
    exact = method == "exact" or (method == "auto" and sets is not None and sweep_work(problem, sets) <= MOST_WORK)
    if exact and sets is not None:
        ranking = Ranking(_removals(problem, sets), sets, pattern, problem.shape)
        masks = [ranking.mask(level, rounding) for level in levels]
    else:
        masks = choose_masks(problem, pattern, sets, levels, rounding, in_rounds=polish)
    found: list[Compressed] = []
    for level, mask in zip(levels, masks, strict=True):
        found.append(_filled(problem, mask.reshape(problem.weight.shape), level, polish))
        if progress is not None:
            progress()
    return found


@torch.no_grad()
def refit(weight: Tensor, mask: Tensor, gram: Gram, *, centered: bool = False, damping: float = 0.01) -> Compressed:
    """The best weights for a given mask of any pattern; `level` is its share of zeros.

    raises    PosttrainingError  weight, mask and Gram matrix of different layers
    """
    problem = problem_of(weight, gram, centered=centered, damping=damping)
    if mask.shape != weight.shape:
        raise PosttrainingError(f"a mask of shape {tuple(mask.shape)} is not one of a weight {tuple(weight.shape)}.")
    level = 1.0 - float(mask.double().mean())
    return _filled(problem, mask.bool().reshape(problem.weight.shape), level, polish=True)


@torch.no_grad()
def corrected_target(weight: Tensor, gram: Gram, damping: float = 0.01) -> Tensor:
    """The weights that give, on the inputs of the pruned network, what `weight` gave on those of the dense one.

    W <- W (X X^'^T) (X^ X^'^T + damping mean(diag) I)^-1, the damping towards `weight`: equal inputs change nothing.

    gram      with `cross`
    returns   filter first, like `weight`; the target of `compress_layer`
    raises    PosttrainingError  a Gram matrix without `cross`
    """
    if gram.cross is None:
        raise PosttrainingError("the correction of a target needs the layer's inputs in the dense network too.")
    problem = problem_of(weight, gram, damping=damping)
    missing = problem.weight @ (gram.cross.to(weight.device) - problem.matrix)
    change = missing @ problem.inverse.inverse
    change = torch.where(problem.inverse.dead[:, None], 0.0, change)
    return (problem.weight + change).reshape(weight.shape).to(weight.dtype)


def sweep_work(problem: Problem, sets: Sets) -> float:
    """Multiply-adds of an exact sweep over the layer, calls counted as work."""
    groups, _, d = problem.weight.shape
    blocks, p = groups * len(sets.rows), sets.columns.shape[1]
    if _whole_rows(sets):
        return 0.0
    return blocks * (d**3 / 3 + d**2 * (24 + 12 * p))


def _removals(problem: Problem, sets: Sets) -> Removals:
    weight = torch.where(problem.inverse.dead[:, None], 0.0, problem.weight)
    if _whole_rows(sets):
        index = sets.rows.to(weight.device)
        costs = (problem.energy[:, index.clamp(min=0)] * (index >= 0)).sum(2, keepdim=True)
        return Removals(torch.zeros_like(costs, dtype=torch.long), costs)
    dtype = torch.float64 if problem.weight.shape[2] < DOUBLE_BELOW else torch.float32
    return remove_all(weight, problem.inverse.inverse, sets, dtype=dtype)


def _whole_rows(sets: Sets) -> bool:
    """Nothing is left of a row from which its only set is removed, so there is nothing to update."""
    return len(sets.columns) == 1 and not len(sets.rest)


def _filled(problem: Problem, mask: Tensor, level: float, polish: bool) -> Compressed:
    plain = torch.where(mask, problem.weight, 0.0)
    if bool(mask.all()):
        return problem.solution(plain, mask, level)
    weight = torch.where(problem.inverse.dead[:, None], 0.0, problem.weight)
    if polish and is_direct(mask):
        rows = least_squares(weight, problem.inverse, mask)
    else:
        triples = zip(weight, problem.inverse.upper, mask, strict=True)
        rows = torch.stack([walk_columns(rows, upper, kept)[0] for rows, upper, kept in triples])
        if polish:
            rows = iterated(weight, problem.inverse.matrix, mask, rows)
    # What was always zero in these images may not be in others: such a weight stays as it is.
    rows = torch.where(problem.inverse.dead[:, None], plain, rows)
    better = problem.errors(rows) <= problem.errors(plain)
    return problem.solution(torch.where(better[..., None], rows, plain), mask, level)
