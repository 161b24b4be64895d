"""Gram matrices: the mean over all columns, however they come."""

import pytest
import torch
from torch import nn

from secateur.errors import PosttrainingError
from secateur.posttraining import GramSum, columns_of, geometry_of

CONV = nn.Conv2d(4, 4, 3, padding=1, stride=2, groups=2)


def gathered(batches, limit=None, module=CONV):
    total = GramSum(limit)
    for batch in batches:
        total.add(batch, geometry_of(module))
    return total.result()


def test_rule_4_batches_are_added_once_and_divided_by_the_columns():
    inputs = torch.randn(12, 4, 9, 9)
    columns = columns_of(inputs.double(), geometry_of(CONV))
    whole, parts = gathered([inputs]), gathered(inputs.split(5))
    for gram in (whole, parts):
        assert gram.columns == columns.shape[2] and gram.matrix.dtype == torch.float64
        assert torch.allclose(gram.matrix, columns @ columns.mT / columns.shape[2], atol=1e-6)
        assert torch.allclose(gram.mean, columns.mean(2), atol=1e-6)


def test_rule_4_float64_inputs_stay_float64():
    inputs = torch.randn(12, 4, 9, 9, dtype=torch.float64)
    columns = columns_of(inputs, geometry_of(CONV))
    assert torch.allclose(gathered([inputs]).matrix, columns @ columns.mT / columns.shape[2], rtol=1e-12, atol=1e-14)


def test_rule_5_a_draw_estimates_the_same_mean():
    inputs = torch.randn(200, 4, 9, 9)
    whole, drawn = gathered([inputs]), gathered(inputs.split(20), limit=200)
    assert drawn.columns == 2000
    assert (whole.matrix - drawn.matrix).norm() < 0.15 * whole.matrix.norm()


def test_rule_5_columns_that_are_drawn_stand_for_all_of_their_call():
    # One call with many positions and one with few, which are ten times as large.
    many, few = torch.randn(40, 4, 9, 9), 10 * torch.randn(1, 4, 9, 9)
    whole, drawn = gathered([many, few]), gathered([many, few], limit=500)
    assert drawn.columns == 525 and whole.columns == 41 * 25
    assert (whole.matrix - drawn.matrix).norm() < 0.15 * whole.matrix.norm()
    assert (whole.mean - drawn.mean).abs().max() < 0.15 * few.abs().mean()


def test_rule_9_a_layer_used_twice_accumulates_both_inputs():
    one, two = torch.randn(2, 4, 9, 9), torch.randn(2, 4, 5, 5)
    gram, alone = gathered([one, two]), [gathered([one]), gathered([two])]
    total = sum(each.matrix * each.columns for each in alone) / sum(each.columns for each in alone)
    assert torch.allclose(gram.matrix, total)


def test_centred_is_the_covariance():
    inputs = torch.randn(300, 6) + 3
    module = nn.Linear(6, 2)
    gram = gathered([inputs], module=module).centered()
    assert torch.allclose(gram.matrix[0], torch.cov(inputs.T.double(), correction=0), atol=1e-4)
    assert not gram.mean.any()


def test_cross_moments_with_the_dense_network():
    dense, pruned = torch.randn(50, 4), torch.randn(50, 4)
    total = GramSum()
    for batch in zip(pruned.split(20), dense.split(20), strict=True):
        total.add(batch[0], geometry_of(nn.Linear(4, 1)), dense=batch[1])
    gram = total.result()
    assert torch.allclose(gram.cross[0].float(), dense.T @ pruned / 50, atol=1e-5)
    centred = (dense - dense.mean(0)).T @ (pruned - pruned.mean(0)) / 50
    assert torch.allclose(gram.centered().cross[0].float(), centred, atol=1e-5)
    with pytest.raises(PosttrainingError, match="every batch or for none"):
        total.add(pruned, geometry_of(nn.Linear(4, 1)))


def test_errors_are_sentences():
    with pytest.raises(PosttrainingError, match="has not run"):
        GramSum().result()
    with pytest.raises(PosttrainingError, match="not finite"):
        gathered([torch.full((1, 4, 9, 9), float("nan"))])
