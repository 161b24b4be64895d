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
    return _mean_distance(inputs.filters, 2.0)


@score_rule("fpgm-l1", per="filter")
def fpgm_l1(inputs: ScoreInputs) -> Tensor:
    """Mean Manhattan distance to the filters of the layer."""
    return _mean_distance(inputs.filters, 1.0)


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
    if filters.shape[1] > len(filters):
        # Rows in the coordinates of their own span: the same norms from a square matrix, R^T of M^T = Q R.
        filters = cast(Tensor, torch.linalg.qr(filters.T, mode="r").R).T  # pyright: ignore[reportUnknownMemberType]
    every = torch.arange(len(filters), device=filters.device)
    whole = _nuclear_norm(filters)
    return torch.stack([whole - _nuclear_norm(filters[every != index]) for index in range(len(filters))])


def _nuclear_norm(matrix: Tensor) -> Tensor:
    return cast(Tensor, torch.linalg.svdvals(matrix)).sum()  # pyright: ignore[reportUnknownMemberType]


def _mean_distance(filters: Tensor, power: float) -> Tensor:
    # Not by the product of filters: the difference of two nearly equal ones would drown in rounding.
    exact = "donot_use_mm_for_euclid_dist"
    parts = [torch.cdist(part, filters, power, exact) for part in torch.split(filters, FILTERS_AT_A_TIME)]
    return torch.cat(parts).mean(dim=1)
