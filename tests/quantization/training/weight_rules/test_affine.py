"""Weights between their extremes."""

import numpy as np
import pytest
import torch

from secateur.quantization.numbers import rounded, scale_of_tensor
from secateur.quantization.training.ranges import numbers_of
from secateur.quantization.training.weight_rules.affine import AffineWeights
from secateur.recipe.schema.quantization_training import QuantizationTraining


@pytest.mark.parametrize("mode", ["sym", "sym_full", "asym_u", "asym_s"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_same_as_rounding_of_arrays(mode, per_channel):
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    rule = AffineWeights(4, QuantizationTraining(weight_mode=mode, per_channel=per_channel))
    wanted = scale_of_tensor(weight.numpy(), numbers_of(mode, 4), 0 if per_channel else None)
    assert np.array_equal(rule(weight).numpy(), rounded(weight.numpy(), wanted))
    grid = rule.grid(weight)
    assert np.array_equal(grid.step.numpy(), wanted.step) and np.array_equal(grid.zero.numpy(), wanted.zero)


def test_every_weight_gets_its_gradient():
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    AffineWeights(2, QuantizationTraining(per_channel=True, weight_mode="sym"))(weight).sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))
