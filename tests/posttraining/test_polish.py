"""Least squares on a mask: three ways, one result."""

import pytest
import torch

from secateur.posttraining import inverse_of
from secateur.posttraining.polish import is_direct, iterated, least_squares


def problem(share, groups=2, rows=9, d=24):
    torch.manual_seed(0)
    x = torch.randn(groups, d, 3 * d, dtype=torch.float64).relu()
    mask = torch.rand(groups, rows, d) > share
    mask[:, 3:6] = mask[:, :1]
    return torch.randn(groups, rows, d, dtype=torch.float64), inverse_of(x @ x.mT / (3 * d)), mask


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_normal_equations_hold(share):
    weight, inverse, mask = problem(share)
    found = least_squares(weight, inverse, mask)
    slope = (weight - found) @ inverse.matrix
    assert not found[~mask].any()
    assert float((slope * mask).abs().max()) < 1e-9


def test_both_direct_ways_agree_on_each_row():
    weight, inverse, mask = problem(0.5)
    found = least_squares(weight, inverse, mask)
    for group in range(2):
        for row in range(9):
            kept = mask[group, row]
            matrix = inverse.matrix[group]
            best = torch.linalg.solve(matrix[kept][:, kept], (weight[group, row] @ matrix)[kept])
            assert torch.allclose(found[group, row, kept], best)


def test_conjugate_gradients_arrive_and_never_go_back():
    weight, inverse, mask = problem(0.6)
    start = torch.where(mask, weight, 0.0)

    def error(rows):
        return float((((weight - rows) @ inverse.matrix) * (weight - rows)).sum())

    errors = [error(iterated(weight, inverse.matrix, mask, start, steps=steps)) for steps in (0, 1, 2, 4, 8, 60)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == pytest.approx(error(least_squares(weight, inverse, mask)), rel=1e-5)
    assert not iterated(weight, inverse.matrix, mask, weight)[~mask].any()


def test_work_is_that_of_the_smaller_side():
    assert is_direct(torch.ones(1, 1000, 4000, dtype=torch.bool))
    half = torch.zeros(1, 200, 4000, dtype=torch.bool)
    half[..., ::2] = True
    assert not is_direct(half)
