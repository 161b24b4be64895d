"""Stripes: the columns of a matrix in groups of M, and what N:M keeps of them.

    kept(stripe) = sum over rows of the N largest of its M columns
    order        = which column stands at place i;  places jM .. (j+1)M - 1 are stripe j
    arrangements = C! / ((M!)^G G!)  ways to spread C columns over G stripes: 35 for 8, 5775 for 12 (M = 4)

Matrices are held transposed, (columns, rows) and contiguous, absolute values: a column is one line of memory.
Columns beyond a multiple of M belong to no stripe and stay where they are.

Source: Pool & Yu 2021, "Channel Permutations for N:M Sparsity".
"""

import math
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]


def arrangement_count(columns: int, m: int) -> int:
    """Distinct ways to spread `columns` over stripes of `m`; neither the order of stripes nor inside one counts."""
    stripes = columns // m
    return math.factorial(columns) // (math.factorial(m) ** stripes * math.factorial(stripes))


@cache
def arrangements(columns: int, m: int) -> IntArray:
    """(count, columns) every distinct arrangement, the one that changes nothing first."""

    def spread(left: tuple[int, ...]) -> list[tuple[int, ...]]:
        if not left:
            return [()]
        found: list[tuple[int, ...]] = []
        for others in combinations(left[1:], m - 1):
            stripe = (left[0], *others)
            rest = tuple(column for column in left if column not in stripe)
            found += [stripe + tail for tail in spread(rest)]
        return found

    return np.array(spread(tuple(range(columns))), dtype=np.int64)


@cache
def single_exchanges(m: int) -> IntArray:
    """(1 + m * m, 2 m) arrangements of two stripes that exchange one column of each, nothing changed first."""
    found = np.tile(np.arange(2 * m), (1 + m * m, 1))
    for number, (left, right) in enumerate(np.ndindex(m, m), start=1):
        found[number, [left, m + right]] = (m + right, left)
    return found


def stripes_kept(columns: FloatArray, n: int, m: int) -> NDArray[np.float64]:
    """(stripes,) what N:M keeps of every stripe, summed in double precision.

    columns    (columns, rows) absolute values
    """
    count = len(columns) // m
    grouped = columns[: count * m].reshape(count, m, columns.shape[1])
    largest = np.partition(grouped, m - n, axis=1)[:, m - n :]
    return largest.sum(axis=(1, 2), dtype=np.float64)


def kept_magnitude(columns: FloatArray, n: int, m: int) -> float:
    """What N:M keeps of a whole matrix (columns, rows); columns of no stripe are kept."""
    rest = columns[len(columns) // m * m :]
    return float(stripes_kept(columns, n, m).sum() + rest.sum(dtype=np.float64))


def most_kept(columns: FloatArray, n: int, m: int) -> float:
    """A bound for every order: in each row the largest N/M of the columns in stripes, wherever they stand."""
    whole = len(columns) // m * m
    kept = whole // m * n
    largest = np.partition(columns[:whole], whole - kept, axis=0)[whole - kept :] if kept else columns[:0]
    return float(largest.sum(dtype=np.float64) + columns[whole:].sum(dtype=np.float64))
