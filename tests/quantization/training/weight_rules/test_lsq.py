"""Learned steps: the closed forms of LSQ."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.quantization.training.weight_rules.lsq import LearnedStepWeights
from secateur.recipe.schema.quantization_training import QuantizationTraining


def rule_of(weight, bits, per_channel):
    rule = LearnedStepWeights(bits, QuantizationTraining(scheme="lsq", per_channel=per_channel))
    rule.start_(weight)
    return rule


def test_start():
    weight = torch.tensor([[1.0, -3.0], [0.5, 0.0], [0.0, 0.0]])
    assert torch.allclose(rule_of(weight, 4, True).step, torch.tensor([4 / math.sqrt(7), 0.5 / math.sqrt(7), 1.0]))
    assert rule_of(weight, 4, False).step.item() == pytest.approx(2 * 4.5 / 6 / math.sqrt(7))


@given(st.floats(-3, 3, width=32), st.integers(2, 8))
def test_gradients_of_one_weight(value, bits):
    high = 2 ** (bits - 1) - 1
    weight = torch.tensor([[value, 1.0]], requires_grad=True)
    rule = rule_of(weight.detach(), bits, per_channel=True)
    with torch.no_grad():
        rule.step.fill_(0.25)
    output = rule(weight)
    scaled = value / 0.25
    steps = float(torch.round(torch.tensor(scaled)))
    inside = abs(scaled) <= high
    assert output[0, 0].item() == 0.25 * max(-high, min(high, steps))
    output[0, 0].backward()
    assert float(weight.grad[0, 0]) == inside
    wanted = steps - scaled if inside else math.copysign(high, scaled)
    assert float(rule.step.grad[0]) == pytest.approx(wanted / math.sqrt(2 * high), abs=1e-5)


def test_gradient_of_a_step_for_the_tensor_is_scaled_by_all_weights():
    weight = torch.full((2, 8), 100.0)
    rule = rule_of(weight, 3, per_channel=False)
    with torch.no_grad():
        rule.step.fill_(1.0)
    rule(weight).sum().backward()
    assert float(rule.step.grad) == pytest.approx(16 * 3 / math.sqrt(16 * 3))


def test_a_step_that_training_made_negative_is_its_size():
    weight = torch.tensor([[1.0, -0.5]])
    rule = rule_of(weight, 4, per_channel=True)
    with torch.no_grad():
        rule.step.fill_(-0.25)
    assert rule(weight).tolist() == weight.tolist() and float(rule.grid(weight).step) == 0.25
