"""A histogram that does not depend on the order of its numbers, against numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.quantization.histogram import BINS, Histogram

# Smaller numbers beside large ones underflow to 0 on their way to a bin.
sizes = st.floats(2.0**-40, 2.0**60, width=32) | st.just(0.0)
floats = sizes | sizes.map(lambda size: -size)


def filled(*parts):
    histogram = Histogram()
    for part in parts:
        array = np.array(part, np.float32)
        histogram.add(array, float(np.abs(array).max(initial=0)))
    return histogram


@given(st.lists(floats, min_size=1, max_size=60), st.randoms(use_true_random=False), st.integers(1, 5))
def test_order_and_batches_do_not_matter(values, random, pieces):
    shuffled = list(values)
    random.shuffle(shuffled)
    parts = [part for part in np.array_split(np.array(shuffled, np.float32), pieces) if len(part)]
    one, other = filled(values), filled(*parts)
    assert one.reach == other.reach
    assert np.array_equal(one.counts, other.counts)


@given(st.lists(floats, min_size=1, max_size=60))
def test_counts_are_numpys(values):
    histogram = filled(values)
    # The last bin holds its upper end, in both.
    expected, _ = np.histogram(np.array(values, np.float32).astype(np.float64), histogram.edges)
    assert np.array_equal(histogram.counts, expected)
    assert histogram.total == len(values)


@given(st.lists(floats, min_size=1, max_size=60))
def test_reach_is_the_smallest_power_of_two(values):
    histogram, largest = filled(values), np.abs(np.array(values, np.float32)).max()
    if largest > 2.0**-99:
        assert largest <= histogram.reach < 2 * largest


@settings(max_examples=50)
@given(st.lists(floats, min_size=1, max_size=60), st.floats(0.001, 1.0))
def test_quantiles_are_within_a_bin(values, share):
    exact = np.quantile(np.array(values, np.float32).astype(np.float64), share, method="inverted_cdf")
    histogram = filled(values)
    width = histogram.reach / (BINS // 2)
    assert abs(histogram.quantile(share) - exact) <= width * 1.0001


def test_memory_is_bounded():
    histogram = Histogram()
    for exponent in range(-90, 110, 7):
        histogram.add(np.full(10, 2.0**exponent, np.float32), 2.0**exponent)
    assert histogram.counts.shape == (BINS,)
    assert histogram.total == 290


@pytest.mark.parametrize("numbers", [[], [0.0], [0.0, -0.0], [1e-45], [3e38, -3e38]])
def test_hostile_numbers(numbers):
    histogram = filled(numbers)
    assert histogram.total == len(numbers)
    assert np.isfinite(histogram.edges).all()
    assert np.isfinite(histogram.error_of(0.0, 1.0, 1 / 255))


def test_error_of_rounding():
    # Uniform numbers and a step of a 255th: the error is step^2 / 12.
    numbers = np.linspace(0, 1, 200_000, endpoint=False, dtype=np.float32)
    step = 1 / 255
    assert filled(numbers).error_of(0.0, 1.0, step) == pytest.approx(step**2 / 12, rel=0.01)


def test_error_of_clipping():
    assert filled([3.0] * 4 + [0.0] * 4).error_of(0.0, 1.0, 1.0) == pytest.approx(2.0, rel=0.01)
