"""Soft rounding: its function at known places, where it starts, and where it ends."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.quantization.numbers import Numbers, rounded, scale_of_tensor
from secateur.quantization.soft_rounding import SoftWeight, falling_beta, inverse_sigmoid, rectified_sigmoid

INT4 = Numbers(4, signed=True, symmetric=True)


@pytest.mark.parametrize(("v", "h"), [(0.0, 0.5), (2.397895, 1.0), (-2.397895, 0.0), (1.0, 0.777270)])
def test_the_published_function(v, h):
    assert float(rectified_sigmoid(torch.tensor(v))) == pytest.approx(h, abs=1e-6)


@given(st.floats(0.0, 1.0))
def test_the_way_back(h):
    found = rectified_sigmoid(inverse_sigmoid(torch.tensor(h, dtype=torch.float64)))
    assert float(found) == pytest.approx(h, abs=1e-9)


@pytest.mark.parametrize("axis", [None, 0])
def test_it_starts_at_the_weight_and_ends_on_the_grid(axis):
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    weight[0, :3] = 0.0
    scale = scale_of_tensor(weight.numpy(), INT4, axis)
    soft = SoftWeight(weight, scale)
    torch.testing.assert_close(soft.soft(), weight, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(soft.nearest.numpy(), rounded(weight.numpy(), scale))
    # Nothing learned yet: what is above the middle goes up.
    np.testing.assert_array_equal(soft.hard().numpy(), soft.nearest.numpy())
    assert soft.turned == 0.0
    with torch.no_grad():
        soft.v.copy_(-soft.v)
    turned = soft.hard()
    np.testing.assert_array_equal(rounded(turned.numpy(), scale), turned.numpy())
    assert soft.turned > 0.7
    assert (turned - weight).abs().max() <= float(scale.step.max()) * 1.001
    assert not turned[0, :3].any()


def test_weights_beyond_the_grid_have_nothing_to_learn():
    scale = scale_of_tensor(np.array([[1.0]], np.float32), INT4)
    soft = SoftWeight(torch.tensor([[3.0, -3.0, 0.3, 0.0]]), scale)
    assert soft.free.tolist() == [[False, False, True, False]]
    torch.testing.assert_close(soft.hard()[0, :2], torch.tensor([1.0, -1.0]))


def test_the_pull_is_nothing_at_the_ends_and_most_in_the_middle():
    scale = scale_of_tensor(np.array([[7.0]], np.float32), INT4)
    soft = SoftWeight(torch.tensor([[1.5, 2.5]]), scale)
    assert float(soft.pull(2.0).detach()) == pytest.approx(2.0)
    with torch.no_grad():
        soft.v.copy_(torch.tensor([[10.0, -10.0]]))
    assert float(soft.pull(2.0).detach()) == 0.0


def test_beta_falls_after_the_warmup():
    betas = [falling_beta(step, 100, 20.0, 2.0, 0.2) for step in range(101)]
    assert set(betas[:20]) == {20.0}
    assert betas == sorted(betas, reverse=True)
    assert betas[100] == pytest.approx(2.0)
