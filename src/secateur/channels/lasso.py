"""LASSO selection: which of the terms of a sum are worth keeping.

    minimise over b   1/2 || Y - sum_i b_i Z_i ||^2 + penalty || b ||_1        Z_i = X_i W_i, what channel i adds

    the penalty is bisected until the number of b_i != 0 is within +-1 % of the channels of what is wanted, and
    within 1 % more after every ten halvings without success

Solvers: `lars`, least-angle regression, which gives b for every penalty at once; `ista`, proximal gradient steps
(with Nesterov's momentum), b <- soft(b - (G b - m) / L, penalty / L). Both see only G = Z^T Z and m = Z^T Y.
Source: He, Zhang & Sun 2017; PocketFlow's channel learners; ALGORITHMS.md C, E10.
"""

from collections.abc import Callable
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from secateur.errors import SparsityError
from secateur.registry import unknown

Solver = Literal["lars", "ista"]
Array = NDArray[np.float64]

TOLERANCE = 0.01
_HALVINGS, _RELAX_EVERY = 60, 10
_ITERATIONS = 300


def lasso_scores(gram: Array, moment: Array, count: int, solver: Solver = "lars") -> Array:
    """Scores of channels of which the `count` best are to stay; larger = keep.

    Channels of the solution come first, those that contribute most (|b_i| ||Z_i||) leading; then the others in the
    order in which they would enter next (their correlation with what is not explained yet).

    gram      (channels, channels) of what each channel adds to the output
    moment    (channels,) of each with the target
    raises    SparsityError  an unknown solver
    """
    if solver not in get_args(Solver):
        raise SparsityError(unknown("solver", solver, get_args(Solver)))
    gram, moment = gram.astype(np.float64), moment.astype(np.float64)
    most = float(np.abs(moment).max(initial=0.0))
    if most == 0.0:
        return np.zeros(len(moment))
    # One unit of size for G and m: solvers compare with constants near 1e-16.
    gram, moment = gram / most, moment / most
    solve = _lars(gram, moment) if solver == "lars" else _ista(gram, moment)
    chosen = _bisected(solve, count, len(moment))
    contribution = np.abs(chosen) * np.sqrt(np.diag(gram).clip(min=0.0))
    left = np.abs(moment - gram @ chosen)
    waiting = left / (2 * left.max() or 1.0)
    return np.where(chosen != 0, 1.0 + contribution / (contribution.max() or 1.0), waiting)


def _bisected(solve: Callable[[float], Array], count: int, channels: int) -> Array:
    """The solution with about `count` entries, for penalties from 0 to 1."""
    low, high, allowed = 0.0, 1.0, TOLERANCE * channels
    best, distance = np.zeros(channels), float(count)
    for step in range(1, _HALVINGS + 1):
        middle = (low + high) / 2
        found = solve(middle)
        number = int(np.count_nonzero(found))
        if abs(number - count) < distance:
            best, distance = found, float(abs(number - count))
        if distance <= allowed:
            break
        low, high = (middle, high) if number > count else (low, middle)
        if step % _RELAX_EVERY == 0:
            allowed += TOLERANCE * channels
    return best


def _lars(gram: Array, moment: Array) -> Callable[[float], Array]:
    """The whole path once; between two of its corners the solution is linear in the penalty."""
    from sklearn.linear_model import lars_path_gram  # type: ignore[import-untyped]

    found = cast(Any, lars_path_gram)(Xy=moment, Gram=gram, n_samples=1, method="lasso")
    corners, path = np.asarray(found[0], dtype=np.float64), np.asarray(found[2], dtype=np.float64)

    def solve(penalty: float) -> Array:
        if penalty >= corners[0]:
            return np.zeros(len(moment))
        after = int(np.searchsorted(-corners, -penalty))
        if after >= len(corners):
            return path[:, -1]
        start, end = corners[after - 1], corners[after]
        share = (start - penalty) / (start - end) if start > end else 1.0
        return (1 - share) * path[:, after - 1] + share * path[:, after]

    return solve


def _ista(gram: Array, moment: Array) -> Callable[[float], Array]:
    """Proximal gradient steps from the solution of the penalty before."""
    largest = float(np.linalg.eigvalsh(gram)[-1])
    state = np.zeros(len(moment))

    def solve(penalty: float) -> Array:
        nonlocal state
        ahead, momentum = state, 1.0
        for _ in range(_ITERATIONS):
            step = ahead - (gram @ ahead - moment) / largest
            after = np.sign(step) * (np.abs(step) - penalty / largest).clip(min=0.0)
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead = after + (momentum - 1) / following * (after - state)
            state, momentum = after, following
        return state

    return solve
