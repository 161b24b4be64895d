"""Scores of filters by what the other filters of the layer say already.

    fpgm        mean over all filters of |F_i - F_j|_2         (the filter itself counts, with distance 0)
    fpgm-l1     mean over all filters of |F_i - F_j|_1
    fpgm-cos    mean over all filters of 1 - cos(F_i, F_j)     (a zero filter has distance 1 to all others)
    nuclear     |M|_* - |M without row i|_*                    M: filters in rows

Source: He et al. 2019, "Filter Pruning via Geometric Median"; nuclear norm as in MSBench.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.sparsity.criterion import ScoreInputs, score_rule

FILTERS_AT_A_TIME = 16


@score_rule("fpgm", "fpgm-l2", per="filter")
def fpgm(inputs: ScoreInputs) -> Tensor:
    """Mean Euclidean distance to the filters of the layer."""
    # Around their mean the products of filters are as small as their distances, so that little drowns in rounding.
    centred = inputs.filters - inputs.filters.mean(dim=0)
    square = centred.square().sum(dim=1)
    distances = (square[:, None] + square - 2 * centred @ centred.T).clamp(min=0).sqrt()
    return distances.fill_diagonal_(0.0).mean(dim=1)


@score_rule("fpgm-l1", per="filter")
def fpgm_l1(inputs: ScoreInputs) -> Tensor:
    """Mean Manhattan distance to the filters of the layer."""
    filters = inputs.filters
    parts = [torch.cdist(part, filters, 1.0) for part in torch.split(filters, FILTERS_AT_A_TIME)]
    return torch.cat(parts).mean(dim=1)


@score_rule("fpgm-cos", per="filter")
def fpgm_cos(inputs: ScoreInputs) -> Tensor:
    """Mean cosine distance to the filters of the layer."""
    directions = F.normalize(inputs.filters, dim=1)
    distances = 1 - directions @ directions.T
    return distances.fill_diagonal_(0.0).mean(dim=1)


@score_rule("nuclear", per="filter")
def nuclear(inputs: ScoreInputs) -> Tensor:
    """How much the nuclear norm falls without the filter."""
    filters = inputs.filters
    every = torch.arange(len(filters), device=filters.device)
    if filters.shape[1] < len(filters):
        gram = filters.T @ filters
        parts = (gram - torch.outer(row, row) for row in filters)
    else:
        gram = filters @ filters.T
        parts = (gram[every != index][:, every != index] for index in range(len(filters)))
    whole = _roots(gram)
    return torch.stack([whole - _roots(part) for part in parts])


def _roots(gram: Tensor) -> Tensor:
    """Sum of the singular values of M from M M^T or M^T M, whose eigenvalues are their squares."""
    # Eigenvalues of the smaller matrix are quicker than singular values, and as good for a ranking.
    values = cast(Tensor, torch.linalg.eigvalsh(gram))  # pyright: ignore[reportUnknownMemberType]
    return values.clamp(min=0).sqrt().sum()
