"""Ranges from histograms: closed forms, known distributions, exhaustive search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import QuantizationError, RecipeError
from secateur.quantization.numbers import Numbers, rounded, scale_of_range
from secateur.quantization.observer import make_observer, observers
from secateur.quantization.observers import Entropy, Percentile, SquaredError
from secateur.quantization.observers.moments import GAUSS, LAPLACE
from secateur.quantization.seen import Seen, Statistics

SIGNED = Numbers(8, signed=True, symmetric=True)


def seen_of(x):
    found = Seen()
    found.add(np.asarray(x, np.float32).reshape(1, -1))
    return found


NORMAL = seen_of(np.random.default_rng(0).standard_normal(400_000))


@pytest.mark.parametrize("percent", [99.0, 99.9, 99.99])
def test_percentiles_of_one_sign(percent):
    x = np.linspace(0, 10, 100_001)
    assert Percentile(seen_of(x), percent).range(Numbers(8)) == (0.0, pytest.approx(percent / 10, abs=0.005))
    assert Percentile(seen_of(-x), percent).range(Numbers(8)) == (pytest.approx(-percent / 10, abs=0.005), 0.0)


def test_percentiles_of_both_signs_leave_half_outside_each_end():
    low, high = Percentile(seen_of(np.linspace(-10, 10, 100_001)), 99.0).range(Numbers(8))
    assert (low, high) == (pytest.approx(-9.9, abs=0.01), pytest.approx(9.9, abs=0.01))


def test_all_percent_are_the_extremes():
    assert Percentile(seen_of([-1.0, 5.0]), 100).range(Numbers(8)) == (-1.0, 5.0)


@pytest.mark.parametrize("percent", [50, 100.1, float("nan")])
def test_impossible_percentiles(percent):
    with pytest.raises(RecipeError):
        Percentile(percent=percent)


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_squared_error_finds_acqis_factor(bits):
    _, high = SquaredError(NORMAL).range(Numbers(bits, signed=True, symmetric=True, restricted=False))
    assert high == pytest.approx(GAUSS[bits], abs=0.12)


def test_squared_error_of_laplace():
    x = np.random.default_rng(1).laplace(size=400_000)
    _, high = SquaredError(seen_of(x)).range(Numbers(4, signed=True, symmetric=True, restricted=False))
    assert high == pytest.approx(LAPLACE[4], abs=0.25)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 4, 8]), st.booleans())
def test_no_shrinking_has_less_error(seed, bits, positive):
    draw = np.random.default_rng(seed)
    x = (draw.standard_normal(3000) * draw.exponential(size=3000)).astype(np.float32)
    x = np.abs(x) if positive else x
    numbers, seen = Numbers(bits), seen_of(x)
    low, high = SquaredError(seen).range(numbers)

    def error(low, high):
        return float(np.square(rounded(x, scale_of_range(low, high, numbers)) - x).mean(dtype=np.float64))

    least = min(error(x.min() * f, x.max() * f) for f in np.arange(1, 101) / 100)
    # The histogram knows each number to its bin.
    assert error(low, high) <= least * 1.02 + 1e-9


def test_outliers_are_cut_off():
    x = np.concatenate([np.random.default_rng(0).standard_normal(10_000), [100.0]])
    for observer in (SquaredError(seen_of(x), 1.0), Entropy(seen_of(x)), Percentile(seen_of(x), 99.9)):
        assert observer.range(Numbers(4))[1] < 50, type(observer)


def test_entropy_keeps_what_has_no_tail():
    # Of numbers that lie evenly, nothing can be cut off without loss.
    low, high = Entropy(seen_of(np.linspace(0, 1, 100_000))).range(Numbers(8))
    assert (low, high) == (0.0, pytest.approx(1.0, abs=0.02))


def test_entropy_does_not_look_at_zeros():
    x = np.abs(np.random.default_rng(2).standard_normal(50_000))
    zeros = np.concatenate([x, np.zeros(500_000)])
    assert Entropy(seen_of(zeros)).range(Numbers(4))[1] == Entropy(seen_of(x)).range(Numbers(4))[1]


@pytest.mark.parametrize("name", ["percentile", "mse", "entropy", "moving"])
def test_saved_statistics_are_not_enough(name):
    with pytest.raises(QuantizationError, match="histogram"):
        make_observer(name, Seen(Statistics(0, 1, 0, 1, 0, 1, 1))).range(Numbers(8))


@pytest.mark.parametrize("name", sorted(observers))
@pytest.mark.parametrize(
    "x", [[0.0], [0.0, 0.0], [5.0], [-5.0], [1e-30, -1e-30], [1e-44], [1e38, -1e38], [1.0, 1.0, 1.0], [-1.0, 0.0]]
)
@pytest.mark.parametrize("numbers", [Numbers(8), SIGNED, Numbers(2)])
def test_every_observer_takes_any_numbers(name, x, numbers):
    x = np.float32(x)
    seen = seen_of(x)
    low, high = make_observer(name, seen).range(numbers)
    assert min(x) - 1e-6 * abs(min(x)) <= low <= high <= max(x) + 1e-6 * abs(max(x))
    assert np.isfinite(rounded(x, make_observer(name, seen).scale(numbers))).all()


def test_unknown_observers_and_options():
    with pytest.raises(RecipeError, match="minmax"):
        make_observer("minmx", seen_of([1.0]))
    with pytest.raises(RecipeError, match="does not take"):
        make_observer("minmax", seen_of([1.0]), {"percent": 3})
