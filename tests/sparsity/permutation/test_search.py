"""Permutation search: never worse, finds planted optima, repeatable."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.sparsity.permutation.search import search_order
from secateur.sparsity.permutation.stripes import arrangements, kept_magnitude, stripes_kept


def hidden(rows, stripes, n, m, seed):
    """A matrix that is N:M in a hidden order: any other order but the like of it removes something."""
    random = np.random.default_rng(seed)
    matrix = np.zeros((rows, stripes, m))
    for row in matrix:
        for stripe in row:
            stripe[random.permutation(m)[:n]] = random.uniform(0.5, 1.5, n)
    return matrix.reshape(rows, -1)[:, random.permutation(stripes * m)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(2, 4), (1, 4), (3, 4), (1, 2), (4, 8)]), st.integers(1, 30))
def test_never_keeps_less_than_the_order_as_it_is(seed, pattern, columns):
    n, m = pattern
    matrix = np.random.default_rng(seed).standard_normal((5, columns)).astype(np.float32)
    found = search_order(matrix, n, m, escapes=3)
    assert sorted(found.order.tolist()) == list(range(columns))
    assert found.before <= found.after <= found.possible + 1e-9
    assert found.before == pytest.approx(kept_magnitude(np.abs(matrix.T), n, m))
    assert found.after == pytest.approx(kept_magnitude(np.abs(matrix.T[found.order]), n, m))
    assert found.order[columns // m * m :].tolist() == list(range(columns // m * m, columns))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_eight_columns_get_the_best_of_all_35_arrangements(n, seed):
    columns = np.random.default_rng(seed).random((8, 6))
    best = max(stripes_kept(columns[order], n, 4).sum() for order in arrangements(8, 4))
    assert search_order(columns.T, n, 4).after == pytest.approx(best)


@pytest.mark.parametrize("window", [8, 12])
@pytest.mark.parametrize("seed", range(3))
def test_the_planted_optimum_of_twelve_columns_is_found(window, seed):
    found = search_order(hidden(40, 3, 2, 4, seed), 2, 4, window=window)
    assert found.after == pytest.approx(found.possible)
    assert found.after > found.before


@pytest.mark.parametrize(("n", "m", "stripes"), [(2, 4, 6), (1, 2, 6), (4, 8, 3)])
def test_planted_optima_of_wider_matrices_are_nearly_found(n, m, stripes):
    found = search_order(hidden(60, stripes, n, m, 1), n, m)
    assert found.after - found.before > 0.7 * (found.possible - found.before)


def test_escapes_find_more_than_the_first_local_optimum():
    matrices = [np.random.default_rng(seed).standard_normal((12, 24)) for seed in range(6)]
    without = [search_order(matrix, escapes=0).after for matrix in matrices]
    with_them = [search_order(matrix, escapes=100).after for matrix in matrices]
    assert all(b >= a for a, b in zip(without, with_them, strict=True))
    assert sum(with_them) > sum(without)


@pytest.mark.parametrize("options", [{}, {"window": 12, "escapes": 2}, {"work": 2_000_000}])
def test_same_seed_same_order(options):
    matrix = np.random.default_rng(0).standard_normal((16, 32)).astype(np.float32)
    a, b = (search_order(matrix, seed=3, **options) for _ in range(2))
    assert np.array_equal(a.order, b.order) and a.after == b.after


def test_rounds_of_pairs_take_over_where_windows_are_too_many():
    matrix = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    rounds, windows = search_order(matrix, work=3_000_000), search_order(matrix, escapes=0)
    assert rounds.method == "rounds of pairs of stripes"
    assert rounds.after - rounds.before > 0.7 * (windows.after - windows.before)


def test_windows_of_three_on_a_wide_matrix_work_in_halves():
    matrix = np.random.default_rng(0).standard_normal((2, 520)).astype(np.float32)
    found = search_order(matrix, window=12, work=20_000_000)
    assert found.method.startswith("windows of 12 in halves")
    assert found.after > found.before


def test_a_very_wide_matrix_gets_exchanges_of_random_columns():
    matrix = np.random.default_rng(0).standard_normal((3, 2052)).astype(np.float32)
    found = search_order(matrix, work=3_000_000)
    assert found.method == "exchanges of random columns"
    assert found.after > found.before
    assert np.array_equal(found.order, search_order(matrix, work=3_000_000).order)


def test_seconds_stop_a_search():
    matrix = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
    found = search_order(matrix, seconds=0.0)
    assert found.after == found.before


def test_a_matrix_that_has_the_pattern_is_left_alone():
    matrix = np.tile([1.0, 0, 2, 0], (5, 4))
    found = search_order(matrix)
    assert found.method == "within 1e-3 of the best possible"
    assert found.order.tolist() == list(range(16))


@pytest.mark.parametrize(
    ("matrix", "options", "sentence"),
    [
        (np.ones((2, 8)), {"n": 4, "m": 4}, "4:4 is not possible"),
        (np.ones((2, 8)), {"window": 9}, "a window of 9 columns"),
        (np.ones((2, 24)), {"n": 4, "m": 8, "window": 24}, "take 16"),
        (np.ones(8), {}, "finite numbers"),
        (np.full((2, 8), np.nan), {}, "finite numbers"),
    ],
)
def test_what_is_not_possible_is_said(matrix, options, sentence):
    with pytest.raises(SparsityError, match=sentence):
        search_order(matrix, **options)
