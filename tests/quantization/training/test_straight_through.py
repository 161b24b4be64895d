"""Rounding is that of the file, bit for bit; gradients are those of not rounding."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from secateur.quantization.numbers import Numbers, rounded, scale_of_range
from secateur.quantization.training.straight_through import affine, gradient_times, round_through, through

ALL_NUMBERS = [
    Numbers(8), Numbers(2), Numbers(8, signed=True), Numbers(8, signed=True, symmetric=True),
    Numbers(4, signed=True, symmetric=True, restricted=False), Numbers(7, symmetric=True),
]  # fmt: skip


@given(
    arrays(np.float32, (3, 5), elements=st.floats(-1e6, 1e6, width=32)),
    st.floats(-50, 0),
    st.floats(0, 50),
    st.sampled_from(ALL_NUMBERS),
)
def test_affine_is_the_files_rounding(x, low, high, numbers):
    scale = scale_of_range(low, high, numbers)
    found = affine(torch.from_numpy(x), torch.tensor(scale.step), torch.tensor(scale.zero).float(), numbers)
    assert np.array_equal(found.numpy(), rounded(x, scale))
    assert not np.signbit(found.numpy()[found.numpy() == 0]).any()


def test_affine_with_channels_is_the_files_rounding():
    x = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    numbers = Numbers(4, signed=True)
    scale = scale_of_range(x.min((1, 2)), x.max((1, 2)), numbers, axis=0)
    step, zero = (torch.tensor(a, dtype=torch.float32).reshape(-1, 1, 1) for a in (scale.step, scale.zero))
    assert np.array_equal(affine(torch.from_numpy(x), step, zero, numbers).numpy(), rounded(x, scale))


def test_gradient_is_one_inside_and_zero_outside():
    # Integers 0..3 with step 1 and zero point 1 tell -1..2; what rounds to an end is inside.
    x = torch.tensor([-1.6, -1.5, -1.4, 0.3, 2.4, 2.5, 2.6], requires_grad=True)
    y = affine(x, torch.tensor(1.0), torch.tensor(1.0), Numbers(2))
    assert y.tolist() == [-1, -1, -1, 0, 2, 2, 2]
    y.sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 1, 1, 1, 0]


def test_half_goes_to_even():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5])
    assert affine(x, torch.tensor(1.0), torch.tensor(2.0), Numbers(4)).tolist() == [0, 2, 2, 0]
    assert round_through(x).tolist() == [0, 2, 2, 0]


def test_through_and_times():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = gradient_times(through(x, torch.tensor([5.0, 6.0])), 0.25)
    assert y.tolist() == [5, 6]
    y.sum().backward()
    assert x.grad.tolist() == [0.25, 0.25]


def test_result_may_be_overwritten():
    """ReLU in place behind a rounded value."""
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    y = torch.relu_(affine(x, torch.tensor(0.5), torch.tensor(8.0), Numbers(4)))
    y.sum().backward()
    assert y.tolist() == [0, 2] and x.grad.tolist() == [0, 1]


@pytest.mark.parametrize("numbers", ALL_NUMBERS)
def test_rounding_twice_changes_nothing(numbers):
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    scale = scale_of_range(-1.0, 2.0, numbers)
    step, zero = torch.tensor(scale.step), torch.tensor(scale.zero).float()
    once = affine(x, step, zero, numbers)
    assert torch.equal(affine(once, step, zero, numbers), once)
