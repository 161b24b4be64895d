"""Heuristic: levels rise with the logarithm of a layer's size.

    s_l = a ln n_l, clipped to 0..bound_l        a meets the total; without clipping a = s sum n / sum (n ln n)

Unclipped, levels may exceed 1; what a bound cuts off is taken from the other layers.

Source: PocketFlow (its `heurist` ratios); clipping is our own.
"""

from math import log

from secateur.sparsity.allocation_problem import Problem, allocations, scaled


@allocations.register("heuristic")
def heuristic(problem: Problem) -> list[float]:
    """Larger layers get sparser, slowly."""
    sizes = [log(layer.weights) for layer in problem.layers]
    levels = scaled(sizes, problem.reach, [0.0] * len(sizes), problem.bounds, problem.goal)
    return [1.0 - level for level in levels]
