"""Learned steps of activations: closed forms."""

import math

import pytest
import torch

from secateur.quantization.training.activation_rules.lsq import LearnedStep
from secateur.recipe.schema.quantization_training import QuantizationTraining


def rule_of(bits=4):
    return LearnedStep(bits, QuantizationTraining(scheme="lsq", activation_bits=bits))


def test_start_without_negative_values():
    rule = rule_of()
    rule(torch.tensor([[1.0, 3.0]]))
    assert rule.zero == 0 and rule.step.item() == pytest.approx(2 * 2 / math.sqrt(15))
    rule(torch.tensor([[100.0, 300.0]]))  # only the first batch counts
    assert rule.step.item() == pytest.approx(2 * 2 / math.sqrt(15))


def test_start_with_negative_values():
    rule = rule_of()
    rule(torch.tensor([[-1.0, 2.0]]))
    assert rule.zero == 5 and rule.step.item() == pytest.approx(2 * 1.5 / math.sqrt(10))
    assert rule.grid().zero == 5 and rule.grid().numbers.high == 15


def test_gradients():
    rule = rule_of()
    rule.started.fill_(True)
    with torch.no_grad():
        rule.step.fill_(0.5)
        rule.zero.fill_(5)
    x = torch.tensor([[-9.0, -0.6, 0.8, 9.0]], requires_grad=True)
    output = rule(x)
    assert output.tolist() == [[-2.5, -0.5, 1.0, 5.0]]
    output.sum().backward()
    assert x.grad.tolist() == [[0, 1, 1, 0]]
    wanted = -5 + (-1 + 1.2) + (2 - 1.6) + 10
    assert rule.step.grad.item() == pytest.approx(wanted / math.sqrt(4 * 10), rel=1e-5)
