"""How often numbers of each size occur, in bounded memory, whatever their order.

    bin = floor(x / reach * BINS / 2) ,  -reach <= x < reach ,      reach = 2^k, the smallest that holds all numbers

A number outside doubles the reach, and pairs of bins become one. Because reach is a power of two, a bin's edges are
exact and the counts do not depend on the order or the batches in which numbers came. Our own design.
"""

import math

import numpy as np
from numpy.typing import NDArray

# Of both signs together: numbers of one sign between reach / 2 and reach still lie in 2048 to 4096 bins.
BINS = 8192
# Reaches beyond these are not told apart.
_SMALLEST, _LARGEST = -100, 128


class Histogram:
    """Counts of finite numbers.

    counts    (BINS,) of the numbers between -reach and reach
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self._exponent: int | None = None

    @property
    def reach(self) -> float:
        return 0.0 if self._exponent is None else 2.0**self._exponent

    @property
    def edges(self) -> NDArray[np.float64]:
        """(BINS + 1,) where bins begin and end."""
        return np.arange(-(BINS // 2), BINS // 2 + 1, dtype=np.float64) * (self.reach / (BINS // 2))

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def add(self, numbers: NDArray[np.float32], largest: float) -> None:
        """Count numbers, the largest of which is `largest` without sign."""
        if not numbers.size:
            return
        self._hold(largest)
        assert self._exponent is not None
        places = numbers.reshape(-1) * np.float32(math.ldexp(BINS // 2, -self._exponent))
        np.floor(places, out=places)
        places += np.float32(BINS // 2)
        found = np.bincount(places.astype(np.intp), minlength=BINS + 1)
        # The reach itself belongs to the last bin.
        found[BINS - 1] += found[BINS]
        self.counts += found[:BINS]

    def _hold(self, largest: float) -> None:
        wanted = max(math.frexp(largest)[1], _SMALLEST) if largest > 0 else _SMALLEST
        if largest > 0 and math.ldexp(1.0, wanted - 1) == largest:
            wanted = max(wanted - 1, _SMALLEST)
        wanted = min(wanted, _LARGEST)
        if self._exponent is None:
            self._exponent = wanted
        while self._exponent < wanted:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[:] = 0
            self.counts[BINS // 4 : BINS // 4 + BINS // 2] = pairs
            self._exponent += 1

    def quantile(self, share: float) -> float:
        """The number that a share of all numbers is not larger than, to the width of a bin (its far end from 0)."""
        wanted = share * self.total
        place = int(np.searchsorted(np.cumsum(self.counts), wanted, side="left"))
        place = min(place, BINS - 1)
        edges = self.edges
        return float(edges[place] if edges[place] < 0 else edges[place + 1])

    def error_of(self, low: float, high: float, step: float, power: float = 2.0) -> float:
        """Mean of |x - x'|^power, where x' is the nearest of the numbers low, low + step, ..., high."""
        filled = np.flatnonzero(self.counts)
        if not len(filled):
            return 0.0
        edges = self.edges
        centres = (edges[filled] + edges[filled + 1]) / 2
        kept = np.clip(np.rint(centres / step) * step, low, high)
        return float((np.abs(centres - kept) ** power * self.counts[filled]).sum() / self.total)
