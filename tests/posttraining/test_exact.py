"""The exact sweep: its oracle, the sum of its costs, and that delayed updates are the same algorithm."""

import pytest
import torch

from secateur.posttraining import exact, inverse_of
from secateur.posttraining.exact import first_costs, remove_all
from secateur.posttraining.sets import sets_of
from secateur.sparsity import parse_pattern

A3 = torch.tensor([[[4.0, 1.0, 0.5], [1.0, 3.0, 1.0], [0.5, 1.0, 2.0]]], dtype=torch.float64)
W3 = torch.tensor([[[1.0, -0.6, 0.8]]], dtype=torch.float64)


def problem(groups=1, rows=6, d=36):
    torch.manual_seed(0)
    x = torch.randn(groups, d, 4 * d, dtype=torch.float64).relu()
    return torch.randn(groups, rows, d, dtype=torch.float64), x @ x.mT / (4 * d)


def test_oracle_of_the_sequence():
    sets = sets_of(parse_pattern("unstructured"), (1, 3), 1)
    inverse = inverse_of(A3, 0.0).inverse
    assert first_costs(W3, inverse, sets).flatten().tolist() == pytest.approx([3.65, 0.847742, 1.061818], abs=1e-6)
    found = remove_all(W3, inverse, sets)
    assert found.sets.flatten().tolist() == [1, 2, 0]
    assert found.increments.flatten().cumsum(0).tolist() == pytest.approx([0.847742, 1.39, 5.0], abs=1e-6)


@pytest.mark.parametrize("spec", ["unstructured", "1x4", "1x4-fine", "kernel", "4in", "block:2x3x1x1", "channel"])
@pytest.mark.parametrize("groups", [1, 2])
def test_costs_add_up_to_all_that_there_was(spec, groups):
    weight, matrix = problem(groups)
    found = remove_all(
        weight, inverse_of(matrix, 0.0).inverse, sets_of(parse_pattern(spec), (6 * groups, 4, 3, 3), groups)
    )
    energy = ((weight @ matrix) * weight).sum()
    assert float(found.increments.sum()) == pytest.approx(float(energy), rel=1e-8)


@pytest.mark.parametrize("spec", ["unstructured", "1x4", "2:4", "4in"])
@pytest.mark.parametrize("pending, values", [(1, 1), (5, 3000), (10**6, 1 << 24)])
def test_delayed_updates_and_batches_change_nothing(monkeypatch, spec, pending, values):
    weight, matrix = problem(2)
    inverse, sets = inverse_of(matrix).inverse, sets_of(parse_pattern(spec), (12, 4, 3, 3), 2)
    whole = remove_all(weight, inverse, sets)
    monkeypatch.setattr(exact, "PENDING", pending)
    monkeypatch.setattr(exact, "VALUES_AT_A_TIME", values)
    again = remove_all(weight, inverse, sets)
    assert torch.equal(whole.sets, again.sets) and torch.allclose(whole.increments, again.increments)


def test_a_sweep_is_the_formula_step_by_step():
    weight, matrix = problem(rows=1, d=12)
    found = remove_all(weight, inverse_of(matrix, 0.0).inverse, sets_of(parse_pattern("unstructured"), (1, 12), 1))
    w, H = weight[0, 0].clone(), torch.linalg.inv(matrix[0])
    left = list(range(12))
    for place, cost in zip(found.sets.flatten().tolist(), found.increments.flatten().tolist(), strict=True):
        costs = {p: float(w[p] ** 2 / H[p, p]) for p in left}
        assert place == min(costs, key=costs.__getitem__)
        assert cost == pytest.approx(costs[place], rel=1e-6)
        w = w - w[place] / H[place, place] * H[place]
        H = H - H[:, place, None] * H[None, place] / H[place, place]
        left.remove(place)
