"""Weight correction: oracle L8, and both moments of every channel for random ones."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruned_pair import NAMES, network, pruned
from secateur.errors import PosttrainingError
from secateur.posttraining.weight_correction import correct_weights, correct_weights_
from secateur.sparsity import masks, stored_weight

WEIGHT = torch.tensor([[1.0, -2.0, 3.0, 0.5]])
MASK = torch.tensor([[False, True, True, False]])


def test_the_exact_form():
    found = correct_weights(WEIGHT, MASK)
    torch.testing.assert_close(found, torch.tensor([[0.0, -1.108495, 3.608495, 0.0]]), atol=1e-6, rtol=0)
    assert float(found.mean()) == pytest.approx(0.625)
    assert float(found.var(correction=0)) == pytest.approx(3.171875)


def test_msbenchs_form():
    found = correct_weights(WEIGHT, MASK, "msb")
    torch.testing.assert_close(found, torch.tensor([[0.0, -1.619479, 3.368252, 0.0]]), atol=1e-6, rtol=0)
    assert float(found.mean()) == pytest.approx(0.437193, abs=1e-6)


@given(st.integers(0, 10_000), st.floats(0.1, 0.9))
def test_both_moments_of_every_filter(seed, density):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 3, 3, 3, generator=generator)
    mask = torch.rand(weight.shape, generator=generator) < density
    found = correct_weights(weight, mask)
    assert not found[~mask].any()
    dense, rows, kept = weight.flatten(1).double(), found.flatten(1).double(), mask.flatten(1)
    for filter in range(5):
        count = int(kept[filter].sum())
        share = count / 27
        mean, square = dense[filter].mean(), dense[filter].square().mean()
        if count > 1 and float(square / share - (mean / share) ** 2) > 1e-9:
            torch.testing.assert_close(rows[filter].mean(), mean, atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(rows[filter].square().mean(), square, atol=1e-5, rtol=1e-5)
        else:
            assert torch.equal(found.flatten(1)[filter], weight.flatten(1)[filter].masked_fill(~kept[filter], 0.0))


def test_filters_that_cannot_be_corrected_stay():
    """Nothing kept, one weight kept, equal weights kept, and a root that is not real."""
    weight = torch.tensor([[1.0, 2, 3, 4], [1, 2, 3, 4], [2, 2, 3, 4], [5, 5.1, 5, 5]])
    mask = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0], [1, 1, 0, 0]]) > 0
    torch.testing.assert_close(correct_weights(weight, mask), weight.masked_fill(~mask, 0.0))


def test_a_dense_mask_changes_nothing():
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    for form in ("exact", "msb"):
        torch.testing.assert_close(correct_weights(weight, torch.ones(4, 6, dtype=torch.bool), form), weight)


def test_what_does_not_fit_is_said():
    with pytest.raises(PosttrainingError, match="boolean"):
        correct_weights(WEIGHT, MASK[:, :2])
    with pytest.raises(PosttrainingError, match="form"):
        correct_weights(WEIGHT, MASK, "mean")


def test_in_a_network_what_is_behind_the_masks_moves_alike():
    """With MSBench's form a removed weight may come back; it is then on the scale of the others."""
    model = pruned(network())
    name = NAMES[0]
    stored, mask = stored_weight(model.get_submodule(name)), masks(model)[name].clone()
    before = stored.clone()
    correct_weights_(model, [name], "msb")
    torch.testing.assert_close(model.get_submodule(name).weight, correct_weights(before, mask, "msb"))
    ratio = (stored - stored.mean((1, 2, 3), keepdim=True)) / (before - before.mean((1, 2, 3), keepdim=True))
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio), atol=1e-3, rtol=1e-3)
    with pytest.raises(PosttrainingError, match="has no mask"):
        correct_weights_(network(), [name])
