"""One threshold for all layers: the lowest scores of the network go, wherever they are.

    s_l = share of layer l's groups whose score is at most t        sum_l min(s_l, bound_l) n_l = zeros asked

Each layer offers its floor(bound_l groups) lowest groups, so that a layer at its bound leaves the rest to the others:
where the published search ends that fixes such a layer and adds its excess to the rank, again and again.

    ties exact        no more goes than asked; equal scores in the order of layers
    ties threshold    t is the value at rank int(s N) and everything up to it goes: one group more, as MSBench
"""

from collections.abc import Sequence
from math import floor

import numpy as np
from numpy.typing import NDArray

from secateur.errors import SparsityError
from secateur.sparsity.allocation_problem import Problem

Scores = NDArray[np.float32]
_SLACK = 1e-6
_HIGHEST = 0x7F7FFFFF  # bits of the largest finite float32


def densities_by_score(scores: Sequence[Scores], problem: Problem) -> list[float]:
    """Densities after the lowest scores of all layers together have gone.

    scores    one array per layer of the problem, one finite number of at least 0 per group of weights
    raises    SparsityError  scores that are not finite
    """
    for layer, own in zip(problem.layers, scores, strict=True):
        if not np.isfinite(own).all():
            raise SparsityError(f"{layer.name}: the weights hold values that are not finite numbers.")
    ordered = [np.sort(own, axis=None) for own in scores]
    sizes = [n / max(len(own), 1) for n, own in zip(problem.reach, ordered, strict=True)]
    most = [floor(bound * len(own) + _SLACK) for bound, own in zip(problem.bounds, ordered, strict=True)]

    def groups(bits: int) -> list[int]:
        """How many groups of each layer are at most this score; floats of at least 0 are ordered as their bits."""
        value = np.array([bits], np.int32).view(np.float32)[0] if bits >= 0 else np.float32(-1)
        found = (int(np.searchsorted(own, value, side="right")) for own in ordered)
        return [min(count, limit) for count, limit in zip(found, most, strict=True)]

    def weights(counts: Sequence[int]) -> float:
        return sum(count * size for count, size in zip(counts, sizes, strict=True))

    goal = problem.goal + _SLACK
    below, above = -1, _HIGHEST
    if weights(groups(above)) <= goal:
        return _densities(groups(above), ordered)
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if weights(groups(middle)) <= goal else (below, middle)
    counts, upto = groups(below), groups(above)
    if problem.ties == "threshold":
        return _densities(upto, ordered)
    left = goal - weights(counts)
    for index, (count, limit) in enumerate(zip(counts, upto, strict=True)):
        taken = min(limit - count, floor(left / sizes[index])) if sizes[index] else 0
        counts[index] += taken
        left -= taken * sizes[index]
        if taken < limit - count:
            break
    return _densities(counts, ordered)


def _densities(counts: Sequence[int], ordered: Sequence[Scores]) -> list[float]:
    return [1.0 - count / len(own) if len(own) else 1.0 for count, own in zip(counts, ordered, strict=True)]
