"""Energy: every layer loses the weights that hold a given share of its energy, early layers a smaller share.

    w^2 ascending,  E(j) = sum_{i <= j} w^2_(i) / sum w^2,  j from 0
    j* = 0 if 100 E(0) >= theta_l, else the first j with 100 E(j) > theta_l, at most int(.99 n) + 1
    s_l = min(.99, int(.5 + 100 j* / n) / 100)                                            two decimals

One number Theta for the network is searched until the total is within the tolerance: start at 10, bracket (0, 10),
the free end moves by 10 while the bracket is at most 1 wide, then bisection down to 1e-6. Where steps of a hundredth
are too coarse for the tolerance, the nearest trial counts. Every trial is recorded.

From Theta to theta_l, our own design: the source hides its decay in a closed binary.

    linear layers    theta = Theta
    convolutions     g = rank of ceil(log2(network input / layer input)) among the distinct values 0..G
                     linear       theta = Theta (1 - t (G - g) / G)
                     geometric    theta = Theta (1 - t)^((G - g) / G)              t: tuning; G = 0: theta = Theta

Source: MSBench (AmbaLevelPrune) for levels and search; results are "energy allocation, own decay".
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from secateur.errors import SparsityError
from secateur.sparsity.allocation_options import Decay
from secateur.sparsity.allocation_problem import Problem, Trial, allocations

MOST = 0.99
_START, _STEP, _NARROW, _END = 10.0, 10.0, 1.0, 1e-6


@allocations.register("energy")
def energy(problem: Problem) -> list[float]:
    """Levels at which all layers lose alike much energy, apart from the decay."""
    if not problem.layers:
        return []
    facts, options = problem.known("energy"), problem.options
    shares = depth_shares(facts.halvings(), options.tuning, options.decay)
    factors = [shares.get(layer.name, 1.0) if layer.kind != "linear" else 1.0 for layer in problem.layers]
    curves = [energy_percent(facts.weight(layer.name)) for layer in problem.layers]

    def levels(theta: float) -> list[float]:
        asked = (level_at(curve, theta * factor) for curve, factor in zip(curves, factors, strict=True))
        return [min(level, bound) for level, bound in zip(asked, problem.bounds, strict=True)]

    return [1.0 - level for level in _search(levels, factors, problem)]


def energy_percent(weight: Tensor) -> NDArray[np.float64]:
    """100 E(j): percent of a layer's energy in its j + 1 smallest weights."""
    squares = np.sort(weight.detach().double().square().flatten().numpy())
    sums = np.cumsum(squares)
    total = float(sums[-1])
    # A layer of zeros has lost nothing until everything is gone.
    return 100.0 * sums / total if total > 0 else np.full(len(sums), 0.0)


def level_at(percent: NDArray[np.float64], theta: float) -> float:
    """The level at which a layer loses `theta` percent of its energy.

    percent    of `energy_percent`
    """
    n = len(percent)
    if float(percent[0]) >= theta:
        return 0.0
    first = int(np.searchsorted(percent, theta, side="right"))
    return min(MOST, int(0.5 + 100 * min(first, int(MOST * n) + 1) / n) / 100)


def depth_shares(halvings: Mapping[str, int], tuning: float, decay: Decay = "linear") -> dict[str, float]:
    """theta_l / Theta of every convolution: our own decay, less for layers of high resolution.

    halvings    convolution -> how often its input is half of the network's
    """
    ranks = {value: rank for rank, value in enumerate(sorted(set(halvings.values())))}
    deepest = len(ranks) - 1
    if deepest < 1:
        return dict.fromkeys(halvings, 1.0)
    missing = {name: (deepest - ranks[value]) / deepest for name, value in halvings.items()}
    if decay == "geometric":
        return {name: (1.0 - tuning) ** share for name, share in missing.items()}
    return {name: 1.0 - tuning * share for name, share in missing.items()}


def _search(levels: Callable[[float], list[float]], factors: Sequence[float], problem: Problem) -> list[float]:
    """The levels of the first Theta within the tolerance, or of the nearest."""
    goal, within = problem.goal, problem.options.tolerance * problem.counted

    def removed(theta: float) -> float:
        gone = problem.removed(levels(theta))
        share = problem.counted and gone / problem.counted
        problem.trials.append(Trial(theta, share))
        return gone

    most = problem.removed(levels(_everything(factors)))
    if most < goal - within:
        raise SparsityError(
            f"allocation energy gives at most {most / problem.counted:.4f} of the weights counted with tuning "
            f"{problem.options.tuning:g} and cap {problem.options.cap:g}; lower the tuning or the target."
        )
    low, high, closed, theta = 0.0, _START, False, _START
    while True:
        gone = removed(theta)
        if abs(gone - goal) <= within:
            return levels(theta)
        low, high, closed = (low, theta, True) if gone > goal else (theta, high, closed)
        if not closed and high - low <= _NARROW:
            high += _STEP
        if high - low < _END:
            nearest = min(problem.trials, key=lambda trial: abs(trial.achieved * problem.counted - goal))
            return levels(nearest.setting)
        theta = (low + high) / 2


def _everything(factors: Sequence[float]) -> float:
    """A Theta at which every layer that may lose anything loses all that it can."""
    return 101.0 / min((factor for factor in factors if factor > 0), default=1.0)
