"""Soft values: the numbers of the table, gradients straight through, steps of their own."""

import numpy as np
import pytest
import torch

from secateur.quantization.numbers import Numbers, rounded, scale_of_range
from secateur.quantization.soft_values import SoftValues
from secateur.quantization.table import ScaleTable


def values(**ranges):
    return SoftValues(ScaleTable({name: scale_of_range(*pair, Numbers(4)) for name, pair in ranges.items()}, {}, {}))


def test_the_numbers_are_those_of_the_table():
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    soft = values(a=(-1.0, 2.0))
    np.testing.assert_array_equal(soft("a", x).numpy(), rounded(x.numpy(), scale_of_range(-1.0, 2.0, Numbers(4))))
    assert soft("b", x) is x
    assert "a" in soft and "b" not in soft


def test_gradients_pass_inside_the_range_and_stop_outside():
    x = torch.tensor([-5.0, 0.33, 5.0], requires_grad=True)
    values(a=(-1.0, 2.0))("a", x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 0.0]


def test_the_gradient_of_a_step_is_that_of_lsq():
    soft = values(a=(0.0, 3.0))  # step .2
    (step,) = soft.learn_(["a"])
    x = torch.tensor([0.33, 9.0])
    soft("a", x).sum().backward()
    # round(v) - v inside, the end of the range outside
    assert float(step.grad) == pytest.approx((2 - 0.33 / 0.2) + 15, rel=1e-5)


def test_a_share_of_the_elements_is_rounded():
    generator = torch.Generator().manual_seed(0)
    soft, x = values(a=(-1.0, 2.0)), torch.rand(10_000, generator=generator)
    found = soft.dropped("a", x, x, 0.5, generator)
    assert (found == soft("a", x)).float().mean() == pytest.approx(0.5, abs=0.03)
    assert (found == x).float().mean() == pytest.approx(0.5, abs=0.03)
    torch.testing.assert_close(soft.dropped("a", x, x, 1.0, generator), soft("a", x))


def test_steps_that_are_shared_are_not_learned_and_others_can_be_put_back():
    soft = values(a=(0.0, 1.0), b=(0.0, 1.0), c=(0.0, 2.0))
    (step,) = soft.learn_(["a", "c", "nobody"])
    before = soft.steps()
    with torch.no_grad():
        step.mul_(2)
    assert soft.scales()["c"].step == pytest.approx(2 * float(before["c"]))
    soft.put_(before)
    soft.freeze_()
    assert soft.scales()["c"] == scale_of_range(0.0, 2.0, Numbers(4))
    assert not step.requires_grad
