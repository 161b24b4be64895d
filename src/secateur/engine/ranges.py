"""Which thread does which units of a step, and in which parts."""

from itertools import pairwise

import numpy as np


def split_units(units: int, costs: np.ndarray | None, threads: int) -> np.ndarray:
    """Bounds of `threads` contiguous ranges of units with about equal cost: thread t does bounds[t] to bounds[t + 1].

    costs      (units,) relative cost of each unit; equal where not given
    returns    (threads + 1,) int64
    """
    shares = np.arange(threads + 1) / threads
    if costs is None or not costs.any():
        return np.rint(shares * units).astype(np.int64)
    before: np.ndarray = np.concatenate([[0.0], np.cumsum(costs, dtype=np.float64)])
    targets: np.ndarray = shares * before[-1]
    # The bound whose cost so far is nearest to the target.
    upper: np.ndarray = np.clip(np.searchsorted(before, targets), 1, units)
    nearer = targets - before[upper - 1] <= before[upper] - targets
    bounds: np.ndarray = np.where(nearer, upper - 1, upper)
    bounds[0], bounds[-1] = 0, units
    return bounds.astype(np.int64)


def split_parts(units: int, costs: np.ndarray | None, threads: int, parts: int) -> np.ndarray:
    """Bounds of the ranges of `split_units`, each cut again into `parts` contiguous ones with about equal cost.

    returns    (threads * parts + 1,) int64: part p of thread t is bounds[t parts + p] to bounds[t parts + p + 1]
    """
    made = [np.zeros(1, np.int64)]
    for begin, end in pairwise(split_units(units, costs, threads).tolist()):
        made.append(begin + split_units(end - begin, None if costs is None else costs[begin:end], parts)[1:])
    return np.concatenate(made)
