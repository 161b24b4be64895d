"""WRPN's weights: clipped to -1..1."""

import torch

from secateur.quantization.training.weight_rules.wrpn import ClippedWeights
from secateur.recipe.schema.quantization_training import QuantizationTraining


def test_values_and_gradients():
    weight = torch.tensor([[-1.7, -1.0, -0.4, 0.2, 0.6, 1.2]], requires_grad=True)
    rule = ClippedWeights(3, QuantizationTraining(scheme="wrpn", weight_bits=3))
    output = rule(weight)
    assert torch.allclose(output, torch.tensor([[-3.0, -3, -1, 1, 2, 3]]) / 3)
    output.sum().backward()
    # 1.2 is 3.6 steps, which rounds to 4 and lies outside.
    assert weight.grad.tolist() == [[0, 1, 1, 1, 1, 0]]
    assert float(rule.grid(weight).step) == torch.tensor(1 / 3)
