"""Second-order rounding of one layer: against the recursion spelled out, brute force and its own bound."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import QuantizationError
from secateur.posttraining import Gram, inverse_of
from secateur.quantization.column_walk import grid_of, round_layer, walk_columns
from secateur.quantization.numbers import Numbers, Scale, rounded, scale_of_tensor

FOUR = Numbers(4, signed=True, symmetric=True)


def problem(rows=3, d=5, seed=0, correlated=0.9):
    """Weights and the Gram matrix of inputs that depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(1, 40 * d, generator=generator, dtype=torch.float64)
    x = (1 - correlated) * torch.randn(d, 40 * d, generator=generator, dtype=torch.float64) + correlated * shared
    matrix = x @ x.T / x.shape[1]
    gram = Gram(matrix[None], x.mean(1)[None], x.shape[1])
    return torch.randn(rows, d, generator=generator), gram


def errors(weight, found, gram):
    change = (weight - found).double()
    return ((change @ gram.matrix[0]) * change).sum(1)


def recursion(weight, matrix, grid):
    """Column after column; what is not rounded yet is the least-squares optimum given what is."""
    found = weight.clone()
    for j in range(weight.shape[1]):
        found[:, j] = grid.nearest(found[:, j, None])[:, 0]
        done, rest = slice(0, j + 1), slice(j + 1, None)
        change = weight[:, done] - found[:, done]
        found[:, rest] = weight[:, rest] + torch.linalg.solve(matrix[rest, rest], matrix[rest, done] @ change.T).T
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 4), st.sampled_from([1, 2, 128]))
def test_the_walk_is_the_recursion_and_knows_its_error(seed, d, rows, block):
    weight, gram = problem(rows, d, seed)
    weight = weight.double()
    grid = grid_of(scale_of_tensor(weight.float().numpy(), FOUR, 0))
    upper = inverse_of(gram.matrix[0], damping=0.0).upper
    found = walk_columns(weight, upper, grid, torch.ones_like(weight, dtype=torch.bool), block)
    torch.testing.assert_close(found, recursion(weight, gram.matrix[0], grid))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_never_below_brute_force_and_never_above_the_bound_of_the_nearest_plane(seed):
    weight, gram = problem(1, 3, seed, correlated=0.7)
    numbers = Numbers(3, signed=True, symmetric=True)
    scale = scale_of_tensor(weight.numpy() * 1.3, numbers)
    found = round_layer(weight, gram, scale, damping=0.0)
    levels = [float(scale.step) * q for q in range(numbers.low, numbers.high + 1)]
    tried = torch.tensor(list(itertools.product(levels, repeat=3)))
    best = float(errors(weight, tried, gram).min())
    own = float(errors(weight, found.weight, gram))
    upper = inverse_of(gram.matrix[0], damping=0.0).upper
    bound = float(((float(scale.step) / 2) ** 2 / upper.diagonal().square()).sum())
    nearest = float(errors(weight, torch.from_numpy(rounded(weight.numpy(), scale)), gram))
    assert best - 1e-9 <= own <= nearest + 1e-9
    # The walk itself keeps the bound wherever no weight was clamped.
    grid = grid_of(scale)
    walked = walk_columns(weight.double(), upper, grid, torch.ones(1, 3, dtype=torch.bool))
    if float(walked.abs().max()) < float(scale.step) * numbers.high:
        assert float(errors(weight, walked, gram)) <= bound + 1e-9


def test_uncorrelated_inputs_round_to_nearest_which_is_brute_force():
    weight = torch.tensor([[0.31, -0.77, 0.12]])
    gram = Gram(torch.diag(torch.tensor([3.0, 0.5, 1.0], dtype=torch.float64))[None], torch.zeros(1, 3).double(), 9)
    scale = Scale(np.float32(0.25), np.int32(0), None, FOUR)
    found = round_layer(weight, gram, scale)
    torch.testing.assert_close(found.weight, torch.tensor([[0.25, -0.75, 0.0]]))
    assert found.error == found.nearest


def test_two_inputs_by_hand():
    # x2 = x1 almost: .4 + .4 rounds to 0 + 0 by itself, to 0 + 1 together.
    matrix = torch.tensor([[1.0, 0.99], [0.99, 1.0]], dtype=torch.float64)
    gram = Gram(matrix[None], torch.zeros(1, 2).double(), 9)
    found = round_layer(torch.tensor([[0.4, 0.4]]), gram, Scale(np.float32(1), np.int32(0), None, FOUR), damping=0.0)
    assert found.weight.tolist() == [[0.0, 1.0]]
    assert found.error < 0.1 * found.nearest


def test_zeros_stay_zeros_and_the_others_make_up_for_them():
    weight, gram = problem(4, 9, correlated=0.8)
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(2)) > 0.4
    scale = scale_of_tensor(weight.numpy(), Numbers(8, signed=True, symmetric=True), 0)
    found = round_layer(weight, gram, scale, mask=mask)
    assert not found.weight[~mask].any()
    torch.testing.assert_close(found.weight, torch.from_numpy(rounded(found.weight.numpy(), scale)), rtol=0, atol=0)
    assert found.error < 0.5 * found.nearest


@pytest.mark.parametrize("ordered", [False, True])
def test_groups_have_grids_of_their_own(ordered):
    weight, gram = problem(2, 4)
    other_weight, other = problem(2, 4, seed=5)
    both = Gram(torch.cat([gram.matrix, other.matrix]), torch.cat([gram.mean, other.mean]), 9)
    stacked = torch.cat([weight, 10 * other_weight])
    scale = scale_of_tensor(stacked.numpy(), FOUR, 0)
    found = round_layer(stacked, both, scale, ordered=ordered)
    for part, own, rows in ((weight, gram, slice(0, 2)), (10 * other_weight, other, slice(2, 4))):
        alone = round_layer(part, own, scale_of_tensor(part.numpy(), FOUR, 0), ordered=ordered)
        torch.testing.assert_close(found.weight[rows], alone.weight)


def test_asymmetric_weights():
    weight, gram = problem(3, 6)
    scale = scale_of_tensor(weight.numpy() + 0.7, Numbers(4), 0)
    found = round_layer(weight, gram, scale)
    torch.testing.assert_close(found.weight, torch.from_numpy(rounded(found.weight.numpy(), scale)), rtol=0, atol=0)
    assert found.error <= found.nearest


def test_errors():
    weight, gram = problem(3, 6)
    with pytest.raises(QuantizationError, match="3 filters"):
        round_layer(weight, gram, scale_of_tensor(weight.numpy(), FOUR, 1))
