"""The best arrangement of the columns of a few stripes, for many windows at once.

    window      2 stripes (8 columns when M = 4) or 3 (12)
    value       sum over its stripes of kept(stripe);  gain = best value - value as it stands
    M = 4       all 35 (5775) arrangements: of every four columns the kept sum is found from pairs of columns,
                  2:4  max(hi_ab + hi_cd, a + b, c + d);  1:4  max(hi_ab, hi_cd)
                  3:4  a + b + c + d - min(lo_ab, lo_cd)
    other M     the M^2 exchanges of one column of each of two stripes (all arrangements, where M <= 3):
                  kept(A - i + j) = kept(A - i) + sum over rows of max(x_j, threshold of A - i) - that threshold

Source: Pool & Yu 2021 (windows and arrangements); the two ways to evaluate them are our own design.
"""

from functools import cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from secateur.sparsity.permutation.stripes import FloatArray, IntArray, arrangements, single_exchanges

# Numbers of one operand: two dozen operands of this size stay in a second level cache.
_CHUNK = 16384


def window_moves(m: int, stripes: int) -> IntArray:
    """(moves, stripes * m) the arrangements that `best_moves` chooses from, the one that changes nothing first."""
    return arrangements(stripes * m, m) if m == 4 else single_exchanges(m)


def best_moves(columns: FloatArray, windows: IntArray, n: int, m: int) -> tuple[NDArray[np.float64], IntArray]:
    """The best move of every window and what it gains.

    columns    (columns, rows) absolute values in their present order
    windows    (windows, stripes) numbers of stripes
    returns    (windows,) gain, 0 where nothing is better; (windows,) row of `window_moves`
    """
    rows = columns.shape[1]
    grouped = columns[: len(columns) // m * m].reshape(-1, m, rows)
    values = np.zeros((len(windows), len(window_moves(m, windows.shape[1]))))
    height = min(rows, _CHUNK)
    width = max(1, _CHUNK // height)
    for first in range(0, len(windows), width):
        part = windows[first : first + width]
        for top in range(0, rows, height):
            # (columns of the window, windows, rows)
            held = grouped[part, :, top : top + height].reshape(len(part), -1, min(height, rows - top))
            held = np.ascontiguousarray(held.swapaxes(0, 1))
            values[first : first + width] += _values_of_four(held, n) if m == 4 else _values_of_exchanges(held, n, m)
    choice = values.argmax(axis=1)
    gains = np.take_along_axis(values, choice[:, None], axis=1)[:, 0] - values[:, 0]
    return gains, choice


def numbers_per_row(stripes: int, m: int) -> int:
    """Numbers that `best_moves` looks at for one row of one window: the unit in which work is counted."""
    return 4 * comb(stripes * m, 4) if m == 4 else 4 * m * m


def moved(windows: IntArray, moves: IntArray, m: int) -> tuple[IntArray, IntArray]:
    """Places that change and the places whose columns come there, for windows that share no stripe.

    moves    (windows, stripes * m) rows of `window_moves`
    """
    places = (windows[:, :, None] * m + np.arange(m)).reshape(len(windows), -1)
    sources = np.take_along_axis(places, moves, axis=1)
    return places.ravel(), sources.ravel()


@cache
def _fours(columns: int) -> tuple[IntArray, IntArray, IntArray]:
    """Pairs of columns, sets of four columns as two of these pairs, and which sets each arrangement consists of."""
    pairs = list(combinations(range(columns), 2))
    number = {pair: index for index, pair in enumerate(pairs)}
    fours = list(combinations(range(columns), 4))
    halves = [(number[a, b], number[c, d]) for a, b, c, d in fours]
    set_of: dict[tuple[int, ...], int] = {four: index for index, four in enumerate(fours)}
    parts = arrangements(columns, 4).reshape(-1, columns // 4, 4)
    sets = [[set_of[tuple(sorted(part))] for part in move] for move in parts.tolist()]
    return np.array(pairs), np.array(halves), np.array(sets)


def _values_of_four(held: FloatArray, n: int) -> NDArray[np.float64]:
    """(windows, arrangements) kept by each arrangement.  held (columns of the window, windows, rows)."""
    pairs, halves, sets = _fours(len(held))
    left, right = held[pairs[:, 0]], held[pairs[:, 1]]
    high, both = np.maximum(left, right), left + right
    low = np.minimum(left, right) if n == 3 else high
    kept = np.empty((held.shape[1], len(halves)))
    best = np.empty(held.shape[1:], dtype=held.dtype)
    for index, (a, b) in enumerate(halves.tolist()):
        if n == 1:
            np.maximum(high[a], high[b], out=best)
        elif n == 2:
            np.add(high[a], high[b], out=best)
            np.maximum(best, both[a], out=best)
            np.maximum(best, both[b], out=best)
        else:
            np.minimum(low[a], low[b], out=best)
            np.subtract(both[a], best, out=best)
            np.add(best, both[b], out=best)
        kept[:, index] = best.sum(axis=1)
    return kept[:, sets].sum(axis=2)


def _values_of_exchanges(held: FloatArray, n: int, m: int) -> NDArray[np.float64]:
    """(windows, 1 + m * m) kept by each exchange of one column of the first stripe with one of the second."""
    left, right = held[:m], held[m:]
    rest_left, threshold_left, kept_left = _without_each(left, n)
    rest_right, threshold_right, kept_right = _without_each(right, n)
    values = np.empty((held.shape[1], 1 + m * m))
    values[:, 0] = kept_left + kept_right
    for number, (i, j) in enumerate(np.ndindex(m, m), start=1):
        values[:, number] = rest_left[i] + np.maximum(threshold_left[i], right[j]).sum(axis=1)
        values[:, number] += rest_right[j] + np.maximum(threshold_right[j], left[i]).sum(axis=1)
    return values


def _without_each(stripe: FloatArray, n: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of stripes (m, windows, rows) without column i: the sum of the n - 1 largest (m, windows), the n-th largest
    (m, windows, rows); and what is kept with it (windows,)."""
    ranked = np.sort(stripe, axis=0)[::-1]
    last, next_one = ranked[n - 1], ranked[n]
    kept = ranked[:n].sum(axis=(0, 2), dtype=np.float64)
    threshold = np.repeat(last[None], len(stripe), axis=0)
    np.copyto(threshold, next_one, where=stripe >= last)
    # Without a kept column its value goes; without another one, the n-th largest is counted below instead.
    rest = kept - np.maximum(stripe, last).sum(axis=2, dtype=np.float64)
    return rest, threshold, kept
