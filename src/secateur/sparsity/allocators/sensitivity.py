"""Sensitivity: every layer is pruned as far as it costs no more than a bound, from the one-layer analysis.

    with a bound     s_l = largest measured level whose cost is below the bound
    with a target    the same on the line between measured levels, at the bound that meets the target (bisection)

A level counts as no dearer than a larger one: where the larger costs less, it is taken.

Source: Distiller (sensitivity tables); meeting a target by scaling the bound is our own design.
"""

import numpy as np
from numpy.typing import NDArray

from secateur.errors import SparsityError
from secateur.sparsity.allocation_options import AllocationOptions
from secateur.sparsity.allocation_problem import Problem, Trial, allocations, dense_rules, own_totals
from secateur.sparsity.layers import Layer
from secateur.sparsity.sensitivity import SensitivityTable

Numbers = NDArray[np.float64]
_HALVINGS = 200
_RISE = 1e-9


@allocations.register("sensitivity")
def sensitivity(problem: Problem) -> list[float]:
    """Layers that cost little lose much."""
    table = _table(problem.options)
    curves = [_curve(table.costs(layer.name)) for layer in problem.layers]
    if problem.options.bound is not None:
        return [1.0 - min(_largest(curve, problem.options.bound), most) for curve, most in _pairs(curves, problem)]
    highest = max((float(costs[-1]) for costs, _ in curves), default=0.0)

    def levels(bound: float) -> list[float]:
        return [min(_between(curve, bound), most) for curve, most in _pairs(curves, problem)]

    most = problem.removed(levels(highest))
    if most < problem.goal * (1 - 1e-9):
        raise SparsityError(
            f"allocation sensitivity gives at most {most / problem.counted:.4f} of the weights counted: its table ends "
            "at the largest level that was measured. Measure higher levels, or lower the target."
        )
    low, high = 0.0, highest
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if problem.removed(levels(middle)) < problem.goal else (low, middle)
    chosen = levels(high)
    problem.trials.append(Trial(high, problem.removed(chosen) / problem.counted if problem.counted else 0.0))
    return [1.0 - level for level in chosen]


Curve = tuple[Numbers, Numbers]


def _curve(costs: dict[float, float]) -> Curve:
    """Costs, rising strictly, and their levels."""
    levels = np.array(list(costs), np.float64)
    cheapest: Numbers = np.minimum.accumulate(np.array(list(costs.values()), np.float64)[::-1])[::-1]
    # Among levels that cost the same the bound must still tell a lower from a higher one.
    cheapest = cheapest + _RISE * np.arange(len(levels), dtype=np.float64)
    return cheapest, levels


def _between(curve: Curve, bound: float) -> float:
    costs, levels = curve
    return float(np.interp(bound, costs, levels))


def _largest(curve: Curve, bound: float) -> float:
    costs, levels = curve
    below = np.flatnonzero(costs - _RISE * np.arange(len(levels)) < bound)
    return float(levels[below[-1]]) if len(below) else 0.0


def _pairs(curves: list[Curve], problem: Problem) -> "zip[tuple[Curve, float]]":
    return zip(curves, problem.bounds, strict=True)


def _table(options: AllocationOptions) -> SensitivityTable:
    if options.sensitivity is None:
        raise SparsityError("allocation sensitivity needs the table of `secateur sensitivity`, its sensitivity.json.")
    return options.sensitivity


def _not_measured(layer: Layer, options: AllocationOptions) -> str | None:
    return None if layer.name in _table(options).layers else "not in the sensitivity table"


def _has_bound(options: AllocationOptions) -> bool:
    return options.bound is not None


dense_rules["sensitivity"] = _not_measured
own_totals["sensitivity"] = _has_bound
