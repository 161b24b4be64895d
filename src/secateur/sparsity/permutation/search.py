"""Permutation search for N:M: an order of the columns in which the pattern removes less.

    gain = kept(order) - kept(identity),  kept = sum of |w| that N:M leaves

    1  columns are cut in stripes of M; a window holds 2 stripes (default) or 3
    2  of every window the best arrangement; those that gain are applied in falling order of gain as long as they
       share no stripe; windows of the touched stripes are looked at again, until none gains more than 1e-4
    3  up to 100 escapes: one column of the left half of a window changes places with one of the right half, and 2
       goes on from there; the best order seen is kept
    4  windows of 3 stripes and more than 512 columns: both halves by themselves, then windows of 2 on the whole;
       more than 2048 columns: exchanges of random columns of different stripes, kept when they gain more than 1e-9;
       no search at all where the magnitude lost is within 1e-3 of the least possible

Where all windows are too many for `work`, every stripe meets another one in rounds, all pairs once per sweep, and
the best arrangement of each is applied at once (our own design). `work` counts numbers looked at, so that the result
does not depend on the speed of the machine.

Source: Pool & Yu 2021, "Channel Permutations for N:M Sparsity"; ALGORITHMS B4.
"""

import time
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from secateur.errors import SparsityError
from secateur.sparsity.permutation.rounds import rounds_of_pairs
from secateur.sparsity.permutation.stripes import FloatArray, IntArray, kept_magnitude, most_kept, stripes_kept
from secateur.sparsity.permutation.windows import best_moves, moved, numbers_per_row, window_moves

GAIN = 1e-4
EXCHANGE_GAIN = 1e-9
NEAR_ENOUGH = 1e-3
ESCAPES = 100
WIDEST_OF_THREE = 512
WIDEST_OF_WINDOWS = 2048
WORK = 1_000_000_000
SECONDS = 120.0


@dataclass(frozen=True, eq=False)
class FoundOrder:
    """An order of columns and what it is worth.

    order      (columns,) int64: the column that comes to each place
    before     magnitude kept in the order as it was;  after: in this one, never less
    possible   a bound on what any order can keep
    method     how it was found, in words
    """

    order: IntArray
    before: float
    after: float
    possible: float
    method: str


def search_order(
    matrix: NDArray[np.floating],
    n: int = 2,
    m: int = 4,
    *,
    window: int | None = None,
    escapes: int = ESCAPES,
    seed: int = 0,
    work: int = WORK,
    seconds: float | None = None,
) -> FoundOrder:
    """An order of the columns of `matrix` in which N:M keeps more of its magnitude, or the order as it is.

    matrix     (rows, columns), any sign; columns beyond a multiple of M keep their places
    window     columns looked at together: 2 M (default), or 3 M, which needs M = 4
    work       numbers that may be looked at before the best order so far is taken
    seconds    also stop after so many; with it, the result depends on the speed of the machine
    raises     SparsityError  a matrix that is not finite or not a matrix, a window or N:M that is not possible
    """
    columns = _checked(matrix, n, m, window)
    stripes = (window or 2 * m) // m
    before, possible = kept_magnitude(columns, n, m), most_kept(columns, n, m)
    total = float(columns.sum(dtype=np.float64))
    identity = np.arange(len(columns), dtype=np.int64)
    if len(columns) < 2 * m:
        return FoundOrder(identity, before, before, possible, "too few columns")
    if possible - before <= NEAR_ENOUGH * total:
        return FoundOrder(identity, before, before, possible, "within 1e-3 of the best possible")
    search = _Search(columns, n, m, work, np.random.default_rng(seed), seconds)
    if len(columns) > WIDEST_OF_WINDOWS:
        search.exchange_at_random_()
        method = "exchanges of random columns"
    elif stripes == 3 and len(columns) > WIDEST_OF_THREE:
        search.halves_(escapes)
        method = f"windows of {3 * m} in halves, then {search.improve_(2, escapes)}"
    else:
        method = search.improve_(stripes, escapes)
    after = kept_magnitude(columns[search.order], n, m)
    if after <= before:
        return FoundOrder(identity, before, before, possible, "no better order found")
    return FoundOrder(search.order, before, after, possible, method)


def _checked(matrix: NDArray[np.floating], n: int, m: int, window: int | None) -> FloatArray:
    if not 1 <= n < m:
        raise SparsityError(f"{n}:{m} is not possible: N:M keeps 1 to M - 1 of M.")
    if window not in (None, 2 * m, 3 * m) or (window == 3 * m and m != 4):
        raise SparsityError(
            f"a window of {window} columns is not possible for {n}:{m}; take {2 * m}" + (" or 12." if m == 4 else ".")
        )
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise SparsityError("an order can be searched for a matrix of finite numbers only.")
    return np.ascontiguousarray(np.abs(matrix).T)


class _Search:
    """The columns in the order reached so far, and the work left."""

    def __init__(
        self, columns: FloatArray, n: int, m: int, work: int, random: np.random.Generator, seconds: float | None
    ) -> None:
        self.original = columns
        self.n, self.m = n, m
        self.work = work
        self.random = random
        self.until = None if seconds is None else time.monotonic() + seconds
        self.order = np.arange(len(columns), dtype=np.int64)
        self.columns = columns.copy()
        self.stripes = len(columns) // m

    @property
    def over(self) -> bool:
        return self.work <= 0 or (self.until is not None and time.monotonic() > self.until)

    def improve_(self, stripes: int, escapes: int) -> str:
        """Rules 2 and 3; rounds of pairs where all windows would be too many. Returns what was done."""
        windows = np.array(list(combinations(range(self.stripes), min(stripes, self.stripes))), dtype=np.int64)
        # The first few times nearly every window is touched again.
        if 8 * self._cost(windows) > self.work:
            self._rounds_()
            return "rounds of pairs of stripes"
        best = self._descend_(windows, *self._looked_at(windows))
        reached, order = self._kept(), self.order.copy()
        tried = 0
        while tried < escapes and not self.over:
            tried += 1
            best = self._escape_(windows, *best)
            best = self._descend_(windows, *best)
            if self._kept() > reached + EXCHANGE_GAIN:
                reached, order = self._kept(), self.order.copy()
        self._reset_(order)
        return f"windows of {windows.shape[1] * self.m}, {tried} escapes"

    def halves_(self, escapes: int) -> None:
        """Each half of the stripes by itself, with windows of three stripes."""
        middle = self.stripes // 2 * self.m
        parts: list[IntArray] = []
        for places in (np.arange(middle), np.arange(middle, self.stripes * self.m)):
            part = _Search(self.original[places], self.n, self.m, self.work // 3, self.random, None)
            part.until = self.until
            part.improve_(3, escapes)
            parts.append(places[part.order])
        self._reset_(np.concatenate([*parts, np.arange(self.stripes * self.m, len(self.order))]))
        self.work -= 2 * (self.work // 3)

    def exchange_at_random_(self) -> None:
        """Rule 4: two random columns of different stripes change places where that keeps more."""
        rows = self.columns.shape[1]
        while not self.over:
            pairs = self.random.permutation(self.stripes)[: self.stripes // 2 * 2].reshape(-1, 2)
            places = pairs * self.m + self.random.integers(self.m, size=pairs.shape)
            left, right = places[:, 0], places[:, 1]
            held = self.columns[(pairs[:, :, None] * self.m + np.arange(self.m)).ravel()]
            trial = held.copy().reshape(len(pairs), 2, self.m, rows)
            trial[np.arange(len(pairs)), 0, left % self.m] = self.columns[right]
            trial[np.arange(len(pairs)), 1, right % self.m] = self.columns[left]
            kept = stripes_kept(trial.reshape(-1, rows), self.n, self.m) - stripes_kept(held, self.n, self.m)
            better = kept.reshape(-1, 2).sum(axis=1) > EXCHANGE_GAIN
            self._move_(np.concatenate([left[better], right[better]]), np.concatenate([right[better], left[better]]))
            self.work -= 4 * held.size

    def _rounds_(self) -> None:
        gained = True
        while gained and not self.over:
            gained = False
            for pairs in rounds_of_pairs(self.stripes, self.random):
                if self.over:
                    break
                gains, choice = best_moves(self.columns, pairs, self.n, self.m)
                self.work -= self._cost(pairs)
                better = gains > GAIN
                if better.any():
                    gained = True
                    self._apply_(pairs[better], choice[better])

    def _descend_(
        self, windows: IntArray, gains: NDArray[np.float64], choice: IntArray
    ) -> tuple[NDArray[np.float64], IntArray]:
        """Rule 2 until nothing gains, or the work is used up. Gains and moves of all windows as they then are."""
        while not self.over:
            applied: list[int] = []
            touched = np.zeros(self.stripes, dtype=bool)
            candidates = np.flatnonzero(gains > GAIN)
            for index in candidates[np.argsort(-gains[candidates], kind="stable")].tolist():
                if not touched[windows[index]].any():
                    touched[windows[index]] = True
                    applied.append(index)
            if not applied:
                break
            self._apply_(windows[applied], choice[applied])
            gains, choice = self._looked_at(windows, touched, gains, choice)
        return gains, choice

    def _escape_(
        self, windows: IntArray, gains: NDArray[np.float64], choice: IntArray
    ) -> tuple[NDArray[np.float64], IntArray]:
        stripes = windows[self.random.integers(len(windows))]
        width = len(stripes) * self.m
        left = self.random.integers(width // 2)
        right = width // 2 + self.random.integers(width - width // 2)
        places = np.array([stripes[spot // self.m] * self.m + spot % self.m for spot in (left, right)])
        self._move_(places, places[::-1])
        touched = np.zeros(self.stripes, dtype=bool)
        touched[places // self.m] = True
        return self._looked_at(windows, touched, gains, choice)

    def _looked_at(
        self,
        windows: IntArray,
        touched: NDArray[np.bool_] | None = None,
        gains: NDArray[np.float64] | None = None,
        choice: IntArray | None = None,
    ) -> tuple[NDArray[np.float64], IntArray]:
        """Gain and best move of every window; only those of touched stripes are new."""
        again = np.arange(len(windows)) if touched is None else np.flatnonzero(touched[windows].any(axis=1))
        gains = np.zeros(len(windows)) if gains is None else gains.copy()
        choice = np.zeros(len(windows), dtype=np.int64) if choice is None else choice.copy()
        gains[again], choice[again] = best_moves(self.columns, windows[again], self.n, self.m)
        self.work -= self._cost(windows[again])
        return gains, choice

    def _cost(self, windows: IntArray) -> int:
        return windows.shape[0] * numbers_per_row(windows.shape[1], self.m) * self.columns.shape[1]

    def _apply_(self, windows: IntArray, choice: IntArray) -> None:
        """Carry out moves, each of which really gains: what is found in single precision is checked in double."""
        moves = window_moves(self.m, windows.shape[1])[choice]
        places, sources = moved(windows, moves, self.m)
        before = stripes_kept(self.columns[places], self.n, self.m).reshape(len(windows), -1).sum(axis=1)
        after = stripes_kept(self.columns[sources], self.n, self.m).reshape(len(windows), -1).sum(axis=1)
        real = np.repeat(after > before + EXCHANGE_GAIN, windows.shape[1] * self.m)
        self._move_(places[real], sources[real])

    def _move_(self, places: IntArray, sources: IntArray) -> None:
        self.order[places], self.columns[places] = self.order[sources], self.columns[sources]

    def _reset_(self, order: IntArray) -> None:
        self.order = order
        self.columns = self.original[order]

    def _kept(self) -> float:
        return float(stripes_kept(self.columns, self.n, self.m).sum())
