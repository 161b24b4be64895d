"""Activations clipped to 0..1."""

import torch

from secateur.quantization.training.activation_rules.clipped import UnitRange
from secateur.recipe.schema.quantization_training import QuantizationTraining


def test_values_and_gradients():
    rule = UnitRange(2, QuantizationTraining(scheme="dorefa", activation_bits=2))
    x = torch.tensor([-0.5, 0.1, 0.4, 0.9, 1.5], requires_grad=True)
    output = rule(x)
    assert torch.allclose(output, torch.tensor([0, 0, 1 / 3, 1, 1]))
    output.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    assert rule.grid().step == torch.tensor(1 / 3) and not rule.state_dict()
