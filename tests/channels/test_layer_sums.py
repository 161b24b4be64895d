"""Sums over positions: errors are those of the samples, fits those of least squares."""

import pytest
import torch

from secateur.channels.layer_sums import LayerSums, fitted


def sampled(samples=60, groups=2, outputs=3, columns=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, groups * columns, generator=generator)
    y = torch.randn(samples, groups * outputs, generator=generator)
    sums = LayerSums.empty(groups, outputs, columns, torch.device("cpu"))
    for start in range(0, samples, 7):
        sums.add_(x[start : start + 7, :, None], y[start : start + 7])
    return sums, x.reshape(samples, groups, columns).double(), y.reshape(samples, groups, outputs).double()


def test_errors_are_those_of_the_samples():
    sums, x, y = sampled()
    weight = torch.randn(2, 3, 5, dtype=torch.float64)
    each = (y - torch.einsum("sgi,goi->sgo", x, weight)).square().sum(0)
    assert sums.error(weight) == pytest.approx(float(each.sum()))
    importance = torch.rand(2, 3, dtype=torch.float64)
    assert sums.error(weight, importance) == pytest.approx(float((each * importance).sum()))
    assert sums.size() == pytest.approx(float(y.square().sum()))


def test_fits_are_those_of_lstsq_whatever_the_weights_were():
    sums, x, y = sampled()
    kept = torch.tensor([True, False, True, True, False]).expand(2, 3, 5).clone()
    kept[1, 0] = torch.tensor([False, True, False, False, False])
    kept[1, 1] = False
    before = torch.randn(2, 3, 5, dtype=torch.float64) * kept
    found = fitted(sums, before, kept)
    assert not found[~kept].any()
    for group in range(2):
        for output in range(3):
            columns = kept[group, output]
            expected = torch.linalg.lstsq(x[:, group][:, columns], y[:, group, output, None]).solution[:, 0]
            torch.testing.assert_close(found[group, output, columns], expected, rtol=1e-9, atol=1e-9)


def test_what_the_samples_do_not_say_stays_as_it_was():
    # Fewer samples than columns, and a column that is always zero.
    sums, x, y = sampled(samples=3, groups=1, outputs=1)
    before = torch.arange(1.0, 6.0, dtype=torch.float64).reshape(1, 1, 5)
    found = fitted(sums, before, torch.ones(1, 1, 5, dtype=torch.bool))
    x, y = x[:, 0], y[:, 0, 0]
    expected = before[0, 0] + torch.linalg.pinv(x) @ (y - x @ before[0, 0])
    torch.testing.assert_close(found[0, 0], expected, rtol=1e-6, atol=1e-6)
    assert sums.error(found) == pytest.approx(0, abs=1e-9)

    sums = LayerSums.empty(1, 1, 2, torch.device("cpu"))
    sums.add_(torch.tensor([[1.0, 0.0], [2.0, 0.0]])[:, :, None], torch.tensor([[2.0], [4.0]]))
    found = fitted(sums, torch.tensor([[[0.0, 7.0]]], dtype=torch.float64), torch.ones(1, 1, 2, dtype=torch.bool))
    torch.testing.assert_close(found, torch.tensor([[[2.0, 7.0]]], dtype=torch.float64))
