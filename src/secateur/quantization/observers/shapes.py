"""Ranges from the whole histogram.

    percentile    the ends that a share of all numbers lies beyond
    mse           the shrunk extremes (low f, high f), f = 1/100 ... 1, whose rounding has the least squared error
    entropy       the shrunk extremes whose rounded histogram loses the least information: KL(clipped || rounded)

Source: percentile, entropy: Migacz 2017 (TensorRT calibration), here with both ends and the zero point that the
integers have; mse: ALGORITHMS.md H2.
"""

import numpy as np
from numpy.typing import NDArray

from secateur.errors import RecipeError
from secateur.quantization.histogram import BINS
from secateur.quantization.numbers import Numbers, scale_of_range
from secateur.quantization.observer import Observer, observers
from secateur.quantization.seen import Seen

SHRINKINGS = np.arange(1, 101) / 100


@observers.register("percentile")
class Percentile(Observer):
    """All but the outermost numbers: `percent` of them are inside, half of the others beyond each end.

    Of values of one sign all others are beyond the one end.
    """

    needs_histogram = True

    def __init__(self, seen: Seen | None = None, percent: float = 99.99) -> None:
        super().__init__(seen)
        if not 50 < percent <= 100:
            raise RecipeError(f"a percentile keeps more than 50 and at most 100 percent of the numbers, not {percent}.")
        self.percent = percent

    def choose(self, numbers: Numbers) -> tuple[float, float]:
        facts, histogram = self.seen.statistics(), self.seen.histogram
        outside = 1 - self.percent / 100
        if facts.min >= 0:
            return 0.0, histogram.quantile(1 - outside)
        if facts.max <= 0:
            return histogram.quantile(outside), 0.0
        return histogram.quantile(outside / 2), histogram.quantile(1 - outside / 2)


@observers.register("mse")
class SquaredError(Observer):
    """Least sum of |x - x'|^power; with power 2, 2.4 (as LAPQ starts from) or others."""

    needs_histogram = True

    def __init__(self, seen: Seen | None = None, power: float = 2.0) -> None:
        super().__init__(seen)
        if not power > 0:
            raise RecipeError(f"errors are taken to a positive power, not {power}.")
        self.power = power

    def choose(self, numbers: Numbers) -> tuple[float, float]:
        facts = self.seen.statistics()
        best, chosen = np.inf, (facts.min, facts.max)
        # From the whole range inward: of equal errors the wider range is kept.
        for factor in SHRINKINGS[::-1]:
            low, high = float(facts.min * factor), float(facts.max * factor)
            scale = scale_of_range(low, high, numbers)
            bottom, top = (float(end) for end in scale.range)
            error = self.seen.histogram.error_of(bottom, top, float(scale.step), self.power)
            if error < best:
                best, chosen = error, (low, high)
        return chosen


@observers.register("entropy")
class Entropy(Observer):
    """Least information lost between the clipped histogram and the same at the integers' resolution.

    The bin of exact zeros is left out, as they are exact in every range and drown everything behind a ReLU.
    """

    needs_histogram = True

    def choose(self, numbers: Numbers) -> tuple[float, float]:
        facts, histogram = self.seen.statistics(), self.seen.histogram
        counts = histogram.counts.astype(np.float64)
        if facts.min >= 0:
            counts[BINS // 2] = 0
        edges = histogram.edges
        centres = (edges[:-1] + edges[1:]) / 2
        best, chosen = np.inf, (facts.min, facts.max)
        for factor in SHRINKINGS[::-1]:
            low, high = float(facts.min * factor), float(facts.max * factor)
            scale = scale_of_range(low, high, numbers)
            if float(scale.step) < edges[1] - edges[0]:
                break  # Finer than the histogram: nothing of the rounding can be seen.
            lost = _information_lost(counts, centres, scale.step, *(float(end) for end in scale.range))
            if lost < best:
                best, chosen = lost, (low, high)
        return chosen


def _information_lost(
    counts: NDArray[np.float64], centres: NDArray[np.float64], step: NDArray[np.float32], low: float, high: float
) -> float:
    """KL divergence, in nats, of the histogram with its outliers at the ends from its rounded form.

    The rounded form spreads what falls on one integer evenly over the bins that are not empty, and knows nothing of
    the outliers.
    """
    width = float(step)
    inside = (centres >= low - width / 2) & (centres <= high + width / 2)
    if not counts[inside].any():
        return float("inf")
    reference = counts[inside].copy()
    reference[0] += counts[~inside & (centres < 0)].sum()
    reference[-1] += counts[~inside & (centres > 0)].sum()
    own = counts[inside]
    filled = own > 0
    places = np.rint((centres[inside] - low) / width).astype(np.int64)
    places -= places.min()
    sums = np.bincount(places, weights=own)
    bins = np.bincount(places, weights=filled)
    spread = np.where(filled, sums[places] / np.maximum(bins[places], 1), 0.0)
    p, q = reference / reference.sum(), spread / spread.sum()
    # Where only outliers lie, the rounded form says nothing: a small share instead of an infinite loss.
    q = np.maximum(q, 1e-12)
    told = p > 0
    return float((p[told] * np.log(p[told] / q[told])).sum())
