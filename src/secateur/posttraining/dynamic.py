"""One option for every layer, so that the errors are least and the costs stay within a budget.

    min sum_l e[l, k_l]    subject to    sum_l c[l, k_l] <= C
    D[l][b] = min_k D[l-1][b - c[l, k]] + e[l, k]            b in buckets of the budget; then back-track

The cheapest option of every layer is paid first, exactly. What is left of the budget is cut into buckets, and extra
costs are rounded up to whole buckets, so that the budget is never exceeded; whole numbers whose budget has no more
units than there are buckets are not rounded at all, and the result is optimal. What rounding left over buys single
better options afterwards. O(layers * options * buckets). Other costs of few layers are solved optimally too: by all
partial choices of which no other one has less error at no more cost, as long as these are few.

Source: the knapsack recursion (Bellman 1957); for compressed layers Aflalo et al. 2020 and SPDY (Frantar & Alistarh
2022). `greedy` and `lagrangian` are the classical alternatives, under the same signature in `solvers`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secateur.errors import PosttrainingError
from secateur.registry import Registry

BUCKETS = 10_000
# Partial choices that are followed where costs are no whole numbers.
_FRONT = 1_000
_BISECTIONS = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Option:
    """One way to have a layer: its error and its cost, both finite and at least 0."""

    error: float
    cost: float


@dataclass(frozen=True)
class Choice:
    """One option per layer.

    indices        which one, layer by layer
    error, cost    their sums; the cost is at most the budget
    """

    indices: tuple[int, ...]
    error: float
    cost: float


Solver = Callable[[Sequence[Sequence[Option]], float], Choice]
solvers: Registry[Solver] = Registry("solver")


@solvers.register("dynamic")
def choose(options: Sequence[Sequence[Option]], budget: float, buckets: int = BUCKETS) -> Choice:
    """The options with the least total error whose total cost is at most `budget`; of equal ones the first.

    buckets    into how many parts the budget is cut: layers / buckets of it may stay unused
    raises     PosttrainingError  a layer without options, figures that are no figures, or a budget below the sum
               of the cheapest options
    """
    tables = _tables(options)
    # Room for the best options of all layers is all that can be used.
    room = min(budget - _least(tables, budget), math.fsum(costs.max() - costs.min() for _, costs in tables))
    unit, exact = _unit(tables, room, buckets)
    if not exact and (indices := _by_front(tables, budget)) is not None:
        return _filled(tables, indices, budget)
    width = math.floor(room / unit) if unit else 0
    best = np.zeros(width + 1)
    taken = np.zeros((len(tables), width + 1), dtype=np.int32)
    steps = [_whole_buckets(costs - costs.min(), unit, exact, width) for _, costs in tables]
    for layer, (errors, _) in enumerate(tables):
        found = np.full(width + 1, np.inf)
        for index in np.flatnonzero(steps[layer] <= width):
            step = steps[layer][index]
            candidate = best[: width + 1 - step] + errors[index]
            # Strictly less: of equal sums the option named first stays.
            better = candidate < found[step:]
            found[step:][better] = candidate[better]
            taken[layer, step:][better] = index
        best = found
    place, indices = width, [0] * len(tables)
    for layer in reversed(range(len(tables))):
        indices[layer] = int(taken[layer, place])
        place -= int(steps[layer][indices[layer]])
    return _filled(tables, indices, budget)


@solvers.register("greedy")
def greedy(options: Sequence[Sequence[Option]], budget: float) -> Choice:
    """From the best options down: always the step that costs least error per cost saved, until the budget holds.

    raises    PosttrainingError  as `choose`
    """
    tables = _tables(options)
    _least(tables, budget)
    indices = [_best_within(table, math.inf) for table in tables]
    steps = [_cheapest_step(table, index) for table, index in zip(tables, indices, strict=True)]
    while _total(tables, indices)[1] > budget:
        layer = min(range(len(tables)), key=lambda layer: (steps[layer][0], layer))
        indices[layer] = steps[layer][1]
        steps[layer] = _cheapest_step(tables[layer], indices[layer])
    return _filled(tables, indices, budget)


@solvers.register("lagrangian")
def lagrangian(options: Sequence[Sequence[Option]], budget: float) -> Choice:
    """Every layer for itself at one price: min e + price c, with the lowest price at which the budget holds.

    Optimal for the cost it ends at; a duality gap is what the next better option of one layer would cost.
    raises    PosttrainingError  as `choose`
    """
    tables = _tables(options)
    _least(tables, budget)

    def at(price: float) -> list[int]:
        found: list[int] = []
        for errors, costs in tables:
            value = errors + price * costs if math.isfinite(price) else costs
            found.append(int(np.lexsort((np.arange(len(costs)), errors, costs, value))[0]))
        return found

    low, high = 0.0, 1.0
    if _total(tables, at(low))[1] > budget:
        while math.isfinite(high) and _total(tables, at(high))[1] > budget:
            low, high = high, high * 4
        for _ in range(_BISECTIONS if math.isfinite(high) else 0):
            middle = (low + high) / 2
            if middle in (low, high):
                break
            low, high = (low, middle) if _total(tables, at(middle))[1] <= budget else (middle, high)
    else:
        high = low
    return _filled(tables, at(high), budget)


_Table = tuple[Floats, Floats]


def _tables(options: Sequence[Sequence[Option]]) -> list[_Table]:
    """(errors, costs) of every layer, checked."""
    tables: list[_Table] = []
    for layer, own in enumerate(options):
        if not own:
            raise PosttrainingError(f"layer {layer} has no options; dense is always one.")
        errors = np.array([option.error for option in own], dtype=np.float64)
        costs = np.array([option.cost for option in own], dtype=np.float64)
        for what, figures in (("an error", errors), ("a cost", costs)):
            if not np.all(np.isfinite(figures) & (figures >= 0)):
                raise PosttrainingError(f"layer {layer} has an option with {what} that is not a number of at least 0.")
        tables.append((errors, costs))
    return tables


def _least(tables: Sequence[_Table], budget: float) -> float:
    """The sum of the cheapest options. raises PosttrainingError when the budget is below it."""
    least = math.fsum(costs.min() for _, costs in tables)
    if not budget >= least:
        raise PosttrainingError(
            f"a budget of {budget:,.6g} is out of reach: the cheapest options of all layers cost {least:,.6g} together."
        )
    return least


def _unit(tables: Sequence[_Table], room: float, buckets: int) -> tuple[float, bool]:
    """(what one bucket stands for, whether all costs that fit are whole buckets); 0: there is nothing to distribute."""
    if buckets < 1:
        raise PosttrainingError(f"a budget is cut into at least 1 bucket, not {buckets}.")
    extras = np.concatenate([np.empty(0), *(costs - costs.min() for _, costs in tables)])
    extras = extras[(extras > 0) & (extras <= room)]
    if not len(extras):
        return 0.0, True
    if np.all(extras == np.floor(extras)) and extras.max() < 2**53:
        common = float(np.gcd.reduce(extras.astype(np.int64)))
        if room / common <= buckets:
            return common, True
    return room / buckets, False


def _whole_buckets(extras: Floats, unit: float, exact: bool, width: int) -> NDArray[np.int64]:
    """Extra costs in buckets, rounded up; what does not fit has `width` + 1."""
    if not unit:
        return np.where(extras > 0, width + 1, 0).astype(np.int64)
    # Upwards also past the last bit of the quotient, which division may have lost.
    quotients = extras / unit if exact else np.ceil(extras / unit * (1 + 1e-12))
    return np.minimum(np.ceil(quotients), width + 1).astype(np.int64)


def _by_front(tables: Sequence[_Table], budget: float) -> list[int] | None:
    """The optimal choice; None where more than a few partial choices would have to be followed."""
    cheapest = [costs.min() for _, costs in tables]
    # Sums differ by the order of their terms; the last word has the exact sum.
    most = budget * (1 + 1e-12)
    error, cost = np.zeros(1), np.zeros(1)
    steps: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for layer, (errors, costs) in enumerate(tables):
        error, cost = (error[:, None] + errors).ravel(), (cost[:, None] + costs).ravel()
        order = np.lexsort((error, cost))
        order = order[cost[order] + math.fsum(cheapest[layer + 1 :]) <= most]
        least = np.minimum.accumulate(error[order])
        order = order[np.concatenate([[True], least[1:] < least[:-1]])[: len(order)]]
        if not 0 < len(order) <= _FRONT:
            return None
        steps.append(np.divmod(order, len(errors)))
        error, cost = error[order], cost[order]
    for end in reversed(range(len(error))):
        indices, place = [0] * len(tables), end
        for layer, (parents, options) in reversed(list(enumerate(steps))):
            indices[layer], place = int(options[place]), int(parents[place])
        if _total(tables, indices)[1] <= budget:
            return indices
    return None


def _total(tables: Sequence[_Table], indices: Sequence[int]) -> tuple[float, float]:
    errors = math.fsum(table[0][index] for table, index in zip(tables, indices, strict=True))
    return errors, math.fsum(table[1][index] for table, index in zip(tables, indices, strict=True))


def _best_within(table: _Table, most: float) -> int:
    """The option with the least error that costs at most `most`; of equal ones the cheapest, then the first."""
    errors, costs = table
    order = np.lexsort((np.arange(len(costs)), costs, errors))
    return int(next((index for index in order if costs[index] <= most), np.argmin(costs)))


def _cheapest_step(table: _Table, current: int) -> tuple[float, int]:
    """(error per cost saved, option) of the best step to a cheaper option; infinite where there is none."""
    errors, costs = table
    cheaper = np.flatnonzero(costs < costs[current])
    if not len(cheaper):
        return math.inf, current
    rates = (errors[cheaper] - errors[current]) / (costs[current] - costs[cheaper])
    index = int(np.argmin(rates))
    return float(rates[index]), int(cheaper[index])


def _filled(tables: Sequence[_Table], indices: list[int], budget: float) -> Choice:
    """The choice after what is left of the budget has bought better options, the largest gain per cost first."""
    while True:
        _, cost = _total(tables, indices)
        best: tuple[float, int, int] | None = None
        for layer, (errors, costs) in enumerate(tables):
            gains = errors[indices[layer]] - errors
            extra = costs - costs[indices[layer]]
            fits = np.flatnonzero((gains > 0) & (cost + extra <= budget))
            for index in fits:
                rate = float(gains[index] / extra[index]) if extra[index] > 0 else math.inf
                if best is None or rate > best[0]:
                    best = (rate, layer, int(index))
        if best is None:
            error, cost = _total(tables, indices)
            return Choice(tuple(indices), error, cost)
        indices[best[1]] = best[2]
