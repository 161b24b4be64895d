"""Activations between a moving average of the extremes of the batches."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.quantization.numbers import ACTIVATIONS, rounded, scale_of_range
from secateur.quantization.training.activation_rules.affine import MovingRange
from secateur.recipe.schema.quantization_training import QuantizationTraining


def rule_of(decay=0.9, bounds=(-math.inf, math.inf), bits=8):
    return MovingRange(bits, QuantizationTraining(decay=decay), bounds)


def between(low, high):
    return torch.tensor([low, high])


@given(st.lists(st.tuples(st.floats(-9, 0), st.floats(0, 9)), min_size=1, max_size=8), st.sampled_from([0.5, 0.999]))
def test_exponential_mean_without_weight_on_its_start(batches, decay):
    rule = rule_of(decay)
    for low, high in batches:
        rule(between(low, high))
    weights = [decay ** (len(batches) - 1 - i) for i in range(len(batches))]
    for found, wanted in ((rule.low, 0), (rule.high, 1)):
        mean = sum(w * batch[wanted] for w, batch in zip(weights, batches, strict=True)) / sum(weights)
        assert found.item() == pytest.approx(mean, abs=1e-4)


def test_only_training_observes():
    rule = rule_of().eval()
    rule(between(-1.0, 2.0))
    assert rule.batches == 0
    rule.train()
    rule.on = False
    x = between(-1.0, 2.0)
    assert rule(x) is x and rule.batches == 1


def test_rounds_as_the_file():
    rule = rule_of()
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    wanted = scale_of_range(x.min().item(), x.max().item(), ACTIVATIONS)
    assert np.array_equal(rule(x).numpy(), rounded(x.numpy(), wanted))
    assert rule.grid().step.numpy() == wanted.step and rule.grid().zero.numpy() == wanted.zero


def test_bounds_hold():
    rule = rule_of(bounds=(0.0, 6.0))
    rule(between(-1.0, 7.0))
    assert rule.grid().step.item() == np.float32(6 / 255) and rule.grid().zero == 0


def test_whole_numbers_pass():
    x = torch.arange(3)
    assert rule_of()(x) is x
