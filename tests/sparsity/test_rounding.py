"""Zeros out of n: the table of ALGORITHMS.md A5 and L4."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.sparsity import removed_count


@pytest.mark.parametrize(
    ("n", "sparsity", "rounding", "zeros"),
    [
        (4096, 0.85, "floor", 3481),
        (4096, 0.85, "complement", 3482),
        (10, 0.33, "floor", 3),
        (10, 0.33, "complement", 4),
        (9, 0.7, "floor", 6),
        (9, 0.7, "complement", 7),
        (1000, 0.9, "complement", 901),
        (1000, 0.8, "complement", 801),
        (10, 0.8, "complement", 9),
        (10, 0.9, "complement", 10),
        (10, 0.33, "ceil", 4),
        (10, 0.35, "nearest", 4),
        (10, 0.34, "nearest", 3),
    ],
)
def test_published_counts(n: int, sparsity: float, rounding: str, zeros: int):
    assert removed_count(n, sparsity, rounding) == zeros


def test_binary_fractions_do_not_lose_one():
    # .29 * 100 is 28.999999999999996 in double precision.
    assert removed_count(100, 0.29, "floor") == 29
    assert removed_count(100, 0.07, "ceil") == 7  # .07 * 100 is 7.000000000000001


@given(st.integers(0, 10_000), st.integers(0, 100))
def test_percentages_round_as_exact_arithmetic_does(n: int, percent: int):
    assert removed_count(n, percent / 100) == n * percent // 100
    assert removed_count(n, percent / 100, "ceil") == -(-n * percent // 100)
    assert removed_count(n, percent / 100, "nearest") == (n * percent + 50) // 100


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan")])
def test_levels_outside_the_range_are_refused(sparsity: float):
    with pytest.raises(SparsityError, match="fraction from 0 to 1"):
        removed_count(10, sparsity)


def test_unknown_rounding_names_the_nearest():
    with pytest.raises(SparsityError, match="Did you mean 'floor'"):
        removed_count(10, 0.5, "flor")


@pytest.mark.parametrize(
    ("n", "s", "removed"), [(10, 0.0, 1), (10, 0.33, 4), (11, 0.5, 6), (10, 0.5, 5), (10, 1.0, 10)]
)
def test_percentile_is_pocketflow_s_nearest_rank(n, s, removed):
    """ALGORITHMS.md A5: round((n - 1) s) + 1, halves to even, so that one weight goes even at s = 0."""
    assert removed_count(n, s, "percentile") == removed
    ordered = list(range(n))
    threshold = ordered[round((n - 1) * s)]
    assert sum(value <= threshold for value in ordered) == removed


def test_percentile_of_nothing_is_nothing():
    assert removed_count(0, 0.5, "percentile") == 0
