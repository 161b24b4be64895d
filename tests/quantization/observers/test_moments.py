"""Ranges from moments: closed forms, and ACIQ's tables as the minima that they are said to be."""

import math

import numpy as np
import pytest

from secateur.errors import RecipeError
from secateur.quantization.numbers import Numbers
from secateur.quantization.observers import Gauss, Laplace, NStd
from secateur.quantization.observers.moments import GAUSS, LAPLACE
from secateur.quantization.seen import Seen, Statistics

FACTS = Statistics(min=-50, max=60, avg_min=-9, avg_max=9, mean=1.5, std=2.0, b=1.25)
POSITIVE = Statistics(min=0, max=60, avg_min=0, avg_max=9, mean=1.5, std=2.0, b=1.25)


def gauss_error(alpha, bits):
    """Clipping a standard normal distribution at +-alpha, and rounding to 2^bits levels."""
    density = math.exp(-(alpha**2) / 2) / math.sqrt(2 * math.pi)
    beyond = math.erfc(alpha / math.sqrt(2)) / 2
    return 2 * ((alpha**2 + 1) * beyond - alpha * density) + (2 * alpha / 2**bits) ** 2 / 12


def laplace_error(alpha, bits):
    return 2 * math.exp(-alpha) + (2 * alpha / 2**bits) ** 2 / 12


@pytest.mark.parametrize(("table", "error"), [(GAUSS, gauss_error), (LAPLACE, laplace_error)])
def test_the_tables_are_minima(table, error):
    for bits, alpha in table.items():
        grid = np.arange(0.5, 14, 0.01)
        best = grid[np.argmin([error(a, bits) for a in grid])]
        assert alpha == pytest.approx(best, abs=0.06), bits


def test_factors_of_eight_bits():
    assert (GAUSS[8], LAPLACE[8], GAUSS[9], LAPLACE[9]) == (3.92, 9.89, 4.2, 11.16)


@pytest.mark.parametrize("n", [1.0, 3.0, 6.0])
def test_n_std(n):
    assert NStd(Seen(FACTS), n).range(Numbers(8)) == (1.5 - 2 * n, 1.5 + 2 * n)


def test_gauss():
    assert Gauss(Seen(FACTS)).range(Numbers(8)) == (1.5 - 3.92 * 2, 1.5 + 3.92 * 2)
    assert Gauss(Seen(POSITIVE)).range(Numbers(8)) == (0.0, 1.5 + 4.2 * 2)


def test_laplace():
    assert Laplace(Seen(FACTS)).range(Numbers(4)) == (1.5 - 5.03 * 1.25, 1.5 + 5.03 * 1.25)
    assert Laplace(Seen(POSITIVE)).range(Numbers(8)) == (0.0, 1.5 + 11.16 * 1.25)


def test_negative_values():
    facts = Statistics(min=-60, max=0, avg_min=-9, avg_max=0, mean=-1.5, std=2.0, b=1.25)
    assert Gauss(Seen(facts)).range(Numbers(8)) == (-1.5 - 4.2 * 2, 0.0)


@pytest.mark.parametrize("observer", [Gauss, Laplace, lambda seen: NStd(seen, 100.0)])
def test_not_beyond_the_extremes(observer):
    facts = Statistics(min=-1, max=2, avg_min=-1, avg_max=2, mean=0, std=100, b=100)
    assert observer(Seen(facts)).range(Numbers(8)) == (-1, 2)


@pytest.mark.parametrize("n", [0.0, -1.0, math.nan])
def test_impossible_widths(n):
    with pytest.raises(RecipeError):
        NStd(n=n)


@pytest.mark.parametrize("bits", [2, 16])
def test_few_and_many_bits(bits):
    low, high = Gauss(Seen(FACTS)).range(Numbers(bits))
    assert low < high
