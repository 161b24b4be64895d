"""Global magnitude: the smallest weights of the whole network go, as they are or measured against their layer.

    global_magnitude    |w|
    l1_normalised       |w| / sum |w| of the layer
    l2_normalised       |w| / sqrt(sum w^2) of the layer

Where a pattern removes groups of weights, the mean over the group decides. With a cap and excluded layers,
l2_normalised is what MSBench calls L2Normalized_v2.

Source: MSBench (Magnitude, L1Normalized, L2Normalized, v2).
"""

from collections.abc import Callable

from torch import Tensor

from secateur.sparsity.allocation_problem import Problem, allocations
from secateur.sparsity.allocators.by_score import Scores, densities_by_score


@allocations.register("global_magnitude")
def global_magnitude(problem: Problem) -> list[float]:
    """One threshold for all weights."""
    return _by_magnitude("global_magnitude", problem, lambda magnitudes: 1.0)


@allocations.register("l1_normalised")
def l1_normalised(problem: Problem) -> list[float]:
    """One threshold for each weight's share of its layer's sum."""
    return _by_magnitude("l1_normalised", problem, lambda magnitudes: float(magnitudes.double().sum()))


@allocations.register("l2_normalised")
def l2_normalised(problem: Problem) -> list[float]:
    """One threshold for each weight against its layer's Euclidean length."""
    return _by_magnitude("l2_normalised", problem, lambda magnitudes: float(magnitudes.double().square().sum().sqrt()))


def _by_magnitude(name: str, problem: Problem, length: Callable[[Tensor], float]) -> list[float]:
    facts = problem.known(name)
    scores: list[Scores] = []
    for layer in problem.layers:
        magnitudes = facts.weight(layer.name).abs()
        # A layer without a single weight above zero has no length, and is the first to go anyway.
        by = length(magnitudes) or 1.0
        scores.append((facts.group_scores(layer.name, magnitudes) / by).float().numpy())
    return densities_by_score(scores, problem)
