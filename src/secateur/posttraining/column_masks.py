"""Masks of layers that are too large for the exact sweep: units are scored once, then the lowest go.

    one weight       w_ij^2 / [A^-1]_jj
    unit (R, P)      sum over R of  w_P ([A^-1]_PP)^-1 w_P^T, divided by its weights
    2-D N:M          the arrangement with the largest sum of the scores of single weights

Source: Hassibi & Stork 1993; sets after Frantar & Alistarh 2022.
"""

import torch
from torch import Tensor

from secateur.posttraining.exact import first_costs
from secateur.posttraining.problem import Problem
from secateur.posttraining.sets import Sets
from secateur.sparsity import NM, Pattern, Rounding, make_mask
from secateur.sparsity.pattern import remove_lowest


def choose_mask(problem: Problem, pattern: Pattern, sets: Sets | None, level: float, rounding: Rounding) -> Tensor:
    """True = kept, in the shape of the layer. raises SparsityError for a level that the pattern cannot reach."""
    weight = torch.where(problem.inverse.dead[:, None], 0.0, problem.weight)
    groups = weight.shape[0]
    if sets is None or isinstance(pattern, NM) or sets.sizes.max() == 1:
        diagonal = problem.inverse.inverse.diagonal(dim1=-2, dim2=-1)[:, None]
        scores = (weight.square() / diagonal).reshape(problem.shape)
        return make_mask(scores, pattern, level, rounding, groups=groups)
    costs = first_costs(weight, problem.inverse.inverse, sets) / sets.sizes.to(weight.device)
    count = pattern.removed_units(problem.shape, level, rounding, groups)
    return pattern.mask_of(remove_lowest(costs.flatten(), count), weight.reshape(problem.shape), groups)
