"""Orders of filters for 1xN blocks: the source's rule exactly, and our own never worse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.sparsity import make_mask, parse_pattern
from secateur.sparsity.permutation.blocks import BlockRows, balanced_rows, similar_order, sorted_order

ORACLE = np.array([[1, 0.1], [0.05, 0.02], [0.9, 0.2], [0.04, 0.01]])


def test_sorted_order_of_the_oracle():
    order = sorted_order(ORACLE.sum(axis=1))
    assert order.tolist() == [3, 1, 0, 2]
    scores = ORACLE[order].reshape(2, 2, 2).sum(axis=1)
    assert np.allclose(scores.T.ravel(), [0.09, 1.9, 0.03, 0.3])
    assert np.allclose(ORACLE.reshape(2, 2, 2).sum(axis=1).T.ravel(), [1.05, 0.94, 0.12, 0.21])


def test_filters_of_equal_norm_keep_their_order():
    assert sorted_order(np.array([2.0, 1, 2, 1])).tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("spec", ["1x2", "1x4", "1x8"])
@pytest.mark.parametrize("filters", [8, 10, 16])
@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 0.9])
def test_kept_is_what_the_mask_keeps(spec, filters, level):
    weight = torch.rand(filters, 5, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    order = np.random.default_rng(0).permutation(filters)
    pattern = parse_pattern(spec)
    permuted = weight[torch.from_numpy(order)]
    kept = float((permuted * make_mask(permuted, pattern, level)).sum())
    rows = BlockRows(weight.sum((2, 3)).numpy(), level)
    assert rows.kept(order, pattern.n) == pytest.approx(kept)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 20), st.sampled_from([2, 4, 8]), st.sampled_from([0.0, 0.5, 0.8, 1.0]),
    st.integers(1, 3),
)  # fmt: skip
def test_similar_is_never_worse_than_sorted_nor_than_unchanged(seed, filters, n, level, layers):
    random = np.random.default_rng(seed)
    sides = [BlockRows(np.abs(random.standard_normal((filters, 6))), level) for _ in range(layers)]
    order = similar_order(sides, n)
    assert sorted(order.tolist()) == list(range(filters))
    by_norm = sorted_order(sum(side.scores.sum(axis=1) for side in sides))
    kept = sum(side.kept(order, n) for side in sides)
    for other in (by_norm, np.arange(filters)):
        assert kept >= sum(side.kept(other, n) for side in sides) - 1e-9
    assert np.array_equal(order, similar_order(sides, n))


def test_filters_that_use_the_same_inputs_come_together():
    random = np.random.default_rng(0)
    uses = np.repeat(random.random((4, 40)) < 0.3, 4, axis=0)  # four kinds of filters, four of each
    scores = (uses * random.uniform(0.5, 1.5, (16, 40)))[random.permutation(16)]
    level = 1 - uses.mean()
    rows = BlockRows(scores, float(level))
    assert rows.kept(similar_order([rows], 4), 4) == pytest.approx(scores.sum(), rel=0.01)
    assert rows.kept(sorted_order(scores.sum(axis=1)), 4) < 0.8 * scores.sum()


def test_much_work_is_cut_short():
    scores = np.random.default_rng(0).random((64, 32))
    rows = BlockRows(scores, 0.5)
    short = similar_order([rows], 4, work=1000)
    assert rows.kept(short, 4) >= rows.kept(sorted_order(scores.sum(axis=1)), 4)


def test_balanced_filters_have_one_norm_and_their_shape():
    scores = np.array([[1.0, 3], [0, 0], [10, 10]])
    rows = balanced_rows(BlockRows(scores, 0.5))
    assert rows.level == 0.5
    assert np.allclose(rows.scores, [[2, 6], [0, 0], [4, 4]])


def test_balanced_puts_filters_of_one_shape_together_whatever_their_norm():
    random = np.random.default_rng(0)
    shapes = np.repeat(random.random((4, 40)) < 0.3, 4, axis=0) * random.uniform(0.5, 1.5, (16, 40))
    order = random.permutation(16)
    scores = (shapes * np.tile([0.1, 1, 3, 10.0], 4)[:, None])[order]
    found = similar_order([balanced_rows(BlockRows(scores, 0.7))], 4)
    kinds = (order // 4)[found].reshape(4, 4)
    assert (kinds == kinds[:, :1]).all()


def test_a_level_at_which_all_goes_is_no_endless_search():
    for seed in range(20):
        rows = BlockRows(np.random.default_rng(seed).random((9, 6)), 1.0)
        assert rows.kept(similar_order([rows], 4), 4) == 0.0
