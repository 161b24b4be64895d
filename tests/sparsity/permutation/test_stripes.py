"""Stripes: how many arrangements there are, and what N:M keeps."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.sparsity.permutation.stripes import (
    arrangement_count,
    arrangements,
    kept_magnitude,
    most_kept,
    single_exchanges,
    stripes_kept,
)


@pytest.mark.parametrize(("columns", "m", "count"), [(8, 4, 35), (12, 4, 5775), (4, 2, 3), (6, 3, 10), (16, 8, 6435)])
def test_number_of_arrangements(columns, m, count):
    assert arrangement_count(columns, m) == count


@pytest.mark.parametrize(("columns", "m"), [(8, 4), (12, 4), (4, 2), (6, 2), (6, 3)])
def test_arrangements_are_all_there_and_differ(columns, m):
    found = arrangements(columns, m)
    assert found[0].tolist() == list(range(columns))
    as_sets = {frozenset(frozenset(stripe) for stripe in row.reshape(-1, m).tolist()) for row in found}
    assert len(as_sets) == len(found) == arrangement_count(columns, m)
    assert all(sorted(row) == list(range(columns)) for row in found.tolist())


@pytest.mark.parametrize("m", [2, 3])
def test_single_exchanges_are_all_arrangements_of_small_stripes(m):
    def sets(rows):
        return {frozenset(frozenset(stripe) for stripe in row.reshape(-1, m).tolist()) for row in rows}

    assert sets(single_exchanges(m)) == sets(arrangements(2 * m, m))


def test_kept_of_stripes():
    columns = np.array([[1, 5.0], [2, 6], [3, 7], [4, 0], [9, 9]])  # two rows, five columns
    assert stripes_kept(columns, 2, 4).tolist() == [3 + 4 + 6 + 7]
    assert kept_magnitude(columns, 2, 4) == 20 + 18  # the column beyond the stripe stays
    assert kept_magnitude(columns, 1, 4) == 4 + 7 + 18


@given(st.integers(0, 10**6), st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4)]))
def test_no_order_keeps_more_than_the_bound(seed, pattern):
    n, m = pattern
    columns = np.random.default_rng(seed).random((2 * m if m == 2 else m + 1, 3))
    most = max(kept_magnitude(columns[list(order)], n, m) for order in permutations(range(len(columns))))
    # A column beyond the stripes is always kept, so the bound holds for orders that leave it there.
    if len(columns) % m == 0:
        assert most <= most_kept(columns, n, m) + 1e-12
