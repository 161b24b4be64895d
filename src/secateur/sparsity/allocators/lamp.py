"""LAMP: each weight's share of the energy that its layer would have left.

    score(w) = w^2 / sum of u^2 over the layer's weights u that are not smaller        then one threshold for all

The largest weight of every layer scores 1, so that no layer vanishes before all others are down to one weight.

Source: Lee et al. 2021, "Layer-adaptive sparsity for the magnitude-based pruning" (MSBench accepts the name and does
nothing).
"""

import torch
from torch import Tensor

from secateur.sparsity.allocation_problem import Problem, allocations
from secateur.sparsity.allocators.by_score import densities_by_score


@allocations.register("lamp")
def lamp(problem: Problem) -> list[float]:
    """One threshold for every weight's share of what its layer keeps."""
    facts = problem.known("lamp")
    scores = [facts.group_scores(layer.name, lamp_scores(facts.weight(layer.name))) for layer in problem.layers]
    return densities_by_score([own.float().numpy() for own in scores], problem)


def lamp_scores(weight: Tensor) -> Tensor:
    """Score of every weight of a layer, between 0 and 1, float64; equal weights score the same."""
    energy = weight.double().square().flatten()
    order = torch.argsort(energy, descending=True, stable=True)
    ranked = energy[order]
    not_smaller = ranked.cumsum(0)
    # Equal weights count each other in: the sum up to the last of them.
    last = torch.searchsorted(-ranked, -ranked, right=True) - 1
    total = not_smaller[last]
    scores = torch.zeros_like(energy)
    scores[order] = torch.where(total > 0, ranked / total, ranked)
    return scores.reshape(weight.shape)
