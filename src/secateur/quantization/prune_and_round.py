"""Pruning and rounding one layer together, on one Gram matrix.

    mask            of second-order pruning (posttraining/second_order.py)
    then            the pruned, polished weights, rounded to nearest
    walked          the same, rounded column by column on the mask
    together        one walk from the dense weights: what is taken away and what is rounded are made up for alike

Each row takes the best of the three by its error against the dense layer. The grid is that of the pruned weights.

Source: Frantar & Alistarh 2022 (OBC: prune, then quantize what is kept), 2023 (SparseGPT: both in one walk).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.posttraining.gram import Gram
from secateur.posttraining.problem import problem_of
from secateur.posttraining.second_order import compress_layer
from secateur.quantization.column_walk import grid_of, walk_columns
from secateur.quantization.numbers import WEIGHTS, Numbers, Scale, scale_of_tensor
from secateur.sparsity import Pattern


@dataclass(frozen=True)
class PrunedAndRounded:
    """A layer with zeros, on a grid.

    weight           filter first, float32, exact zeros where removed
    mask             True = kept
    scale            of each filter, or of the tensor
    pruned_error     relative squared error of the outputs after pruning alone
    stepwise_error   after rounding that to nearest
    error            of `weight`, never more than stepwise
    """

    weight: Tensor
    mask: Tensor
    scale: Scale
    pruned_error: float
    stepwise_error: float
    error: float


@torch.no_grad()
def prune_and_round(
    weight: Tensor,
    gram: Gram,
    pattern: Pattern,
    level: float,
    numbers: Numbers = WEIGHTS,
    *,
    per_channel: bool = True,
    damping: float = 0.01,
) -> PrunedAndRounded:
    """The layer at one level of a pattern and one grid.

    weight    filter first
    level     fraction of the pattern's units that goes
    raises    PosttrainingError  a Gram matrix of another layer;  SparsityError  a pattern that does not apply
    """
    (pruned,) = compress_layer(weight, gram, pattern, [level], damping=damping)
    scale = scale_of_tensor(pruned.weight.numpy(), numbers, 0 if per_channel else None)
    problem = problem_of(weight, gram, damping=damping)
    start = pruned.weight.double().reshape(problem.weight.shape)
    kept = pruned.mask.reshape(problem.weight.shape)
    grids = grid_of(scale).rows(len(problem.weight))

    def walked(rows: Tensor) -> Tensor:
        uppers = problem.inverse.upper
        return torch.stack([walk_columns(rows[g], uppers[g], grids[g], kept[g]) for g in range(len(rows))])

    nearest = torch.stack([torch.where(kept[g], grids[g].nearest(start[g]), 0.0) for g in range(len(start))])
    candidates = torch.stack([nearest, walked(start), walked(problem.weight)])
    errors = torch.stack([problem.errors(candidate) for candidate in candidates])
    best = errors.argmin(0)
    rows = candidates.gather(0, best[None, :, :, None].expand(1, *candidates.shape[1:]))[0]
    whole = float(problem.energy.sum()) or 1.0
    stepwise, error = (float(each.sum()) / whole for each in (errors[0], errors.min(0).values))
    return PrunedAndRounded(rows.float().reshape(weight.shape), pruned.mask, scale, pruned.error, stepwise, error)
