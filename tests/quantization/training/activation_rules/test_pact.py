"""Learned clips: closed forms of PACT."""

import pytest
import torch

from secateur.quantization.training.activation_rules.pact import LearnedClip
from secateur.recipe.schema.quantization_training import QuantizationTraining


def rule_of(bits=2, **settings):
    return LearnedClip(bits, QuantizationTraining(scheme="pact", activation_bits=bits, **settings))


def test_values_and_gradients():
    rule = rule_of(clip=3.0)
    x = torch.tensor([-1.0, 0.4, 1.6, 3.0, 7.0], requires_grad=True)
    output = rule(x)
    assert output.tolist() == [0, 0, 2, 3, 3]
    output.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0, 0] and rule.clip.grad.item() == 2


def test_starts_at_eight_and_decays():
    rule = rule_of()
    assert rule.clip.item() == 8
    penalty = rule.penalty()
    penalty.backward()
    assert penalty.item() == pytest.approx(1e-4 / 2 * 64) and rule.clip.grad.item() == pytest.approx(8e-4)
    assert rule_of(clip_decay=0.0).penalty() is None


def test_grid():
    grid = rule_of(8, clip=5.1).grid()
    assert grid.step.item() == pytest.approx(5.1 / 255) and grid.zero == 0 and grid.numbers.high == 255


def test_a_clip_that_fell_below_zero_still_tells_something():
    rule = rule_of(clip=1.0)
    with torch.no_grad():
        rule.clip.fill_(-1.0)
    assert torch.isfinite(rule(torch.tensor([0.0, 2.0]))).all() and rule.grid().step > 0
