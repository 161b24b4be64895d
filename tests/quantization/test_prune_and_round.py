"""Pruning and rounding together: exact zeros, the grid, and never more error than one after the other."""

import itertools

import numpy as np
import pytest
import torch

from secateur.posttraining import Gram
from secateur.posttraining.problem import output_error
from secateur.quantization.numbers import Numbers, rounded
from secateur.quantization.prune_and_round import prune_and_round
from secateur.sparsity import parse_pattern

INT4 = Numbers(4, signed=True, symmetric=True)


def problem(rows=6, d=12, groups=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(groups, d, 30 * d, generator=generator, dtype=torch.float64)
    x = x + 1.5 * x.roll(1, 1) + torch.randn(groups, 1, 30 * d, generator=generator, dtype=torch.float64)
    gram = Gram(x @ x.mT / x.shape[2], x.mean(2), x.shape[2])
    return torch.randn(groups * rows, d, generator=generator), gram


@pytest.mark.parametrize(("pattern", "level"), [("unstructured", 0.5), ("2:4", 0.5), ("1x2", 0.5)])
@pytest.mark.parametrize("per_channel", [True, False])
def test_zeros_grid_and_error(pattern, level, per_channel):
    weight, gram = problem()
    found = prune_and_round(weight, gram, parse_pattern(pattern), level, INT4, per_channel=per_channel)
    assert float((found.weight == 0).float().mean()) >= 0.5
    assert not found.weight[~found.mask].any()
    np.testing.assert_array_equal(rounded(found.weight.numpy(), found.scale), found.weight.numpy())
    assert found.error == pytest.approx(output_error(weight, found.weight, gram), rel=1e-6)
    assert found.pruned_error < found.error <= found.stepwise_error


def test_it_gains_on_strongly_dependent_inputs():
    gains = []
    for seed in range(5):
        found = prune_and_round(*problem(seed=seed), parse_pattern("unstructured"), 0.5, INT4)
        # What rounding adds to the error of pruning.
        gains.append((found.error - found.pruned_error) / (found.stepwise_error - found.pruned_error))
    assert np.mean(gains) < 0.85


def test_never_below_brute_force_on_the_mask():
    weight, gram = problem(rows=1, d=4)
    numbers = Numbers(3, signed=True, symmetric=True)
    found = prune_and_round(weight, gram, parse_pattern("unstructured"), 0.5, numbers, damping=0.0)
    levels = [float(found.scale.step[0]) * q for q in range(numbers.low, numbers.high + 1)]
    kept = found.mask[0].nonzero().flatten().tolist()
    tried = []
    for values in itertools.product(levels, repeat=len(kept)):
        row = torch.zeros(1, 4)
        row[0, kept] = torch.tensor(values)
        tried.append(output_error(weight, row, gram))
    assert min(tried) - 1e-6 <= found.error <= found.stepwise_error


def test_groups():
    weight, gram = problem(rows=2, d=9, groups=3)
    found = prune_and_round(weight, gram, parse_pattern("unstructured"), 0.4, INT4)
    for group in range(3):
        rows = slice(2 * group, 2 * group + 2)
        own = Gram(gram.matrix[group : group + 1], gram.mean[group : group + 1], gram.columns)
        assert output_error(weight[rows], found.weight[rows], own) < 0.5
