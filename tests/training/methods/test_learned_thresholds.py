"""STR: soft thresholds by hand, and the shift that brings a network to its level."""

import math

import pytest
import torch
from torch import nn

from secateur.recipe import Str, Training
from secateur.sparsity import masks, plan_sparsity
from secateur.training.hooks import Scene
from secateur.training.methods.learned_thresholds import LearnedThresholds, shift_to
from secateur.training.optimizer import build_optimizer


def begun(pattern="unstructured", sparsity=0.5, epochs=10, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 8), nn.Linear(8, 3))
    plan = plan_sparsity(model, sparsity, pattern, base="selected")
    config = Training.model_validate({"epochs": epochs, "learning_rate": 0.1, "momentum": 0.0})
    optimizer = build_optimizer(model, config)
    hook = LearnedThresholds(plan, Str.model_validate(settings))
    hook.begin(Scene(model, optimizer, None, config, 10, 0))
    return hook, model, plan, optimizer


def test_weights_are_thresholded_softly():
    hook, model, _, _ = begun(threshold_init=-2.0)
    threshold = 1 / (1 + math.exp(2.0))
    stored = model[0].parametrizations.weight.original
    expected = stored.sign() * (stored.abs() - threshold).clamp(min=0)
    torch.testing.assert_close(model[0].weight, expected)
    assert (model[0].weight == 0).any() and (model[0].weight != 0).any()
    hook.close()
    assert torch.equal(model[0].weight, stored)


def test_blocks_are_thresholded_by_their_mean():
    _, model, _, _ = begun("1x4", threshold_init=-2.0)
    stored = model[1].parametrizations.weight.original
    mean = stored.abs().reshape(2, 4, 6).mean(1, keepdim=True)
    expected = stored.reshape(2, 4, 6) * (1 - 1 / (1 + math.exp(2.0)) / mean).clamp(min=0)
    torch.testing.assert_close(model[1].weight, expected.reshape(8, 6))


def test_the_gradient_of_a_threshold():
    """d/da of a sum is -sigmoid'(a) sum sign(w') over what remains."""
    hook, model, _, _ = begun(threshold_init=-2.0)
    model[0].weight.sum().backward()
    share = 1 / (1 + math.exp(2.0))
    expected = -share * (1 - share) * float(model[0].weight.detach().sign().sum())
    assert float(hook._thresholds[0].grad) == pytest.approx(expected, rel=1e-5)


def test_the_shift_is_an_order_statistic():
    margins, sizes = torch.tensor([3.0, -1.0, 2.0, 0.5]), torch.ones(4)
    assert [shift_to(margins, sizes, zeros) for zeros in (0, 1, 2.5, 4)] == [0.0, -1.0, 0.5, 3.0]


def test_at_full_strength_every_step_ends_on_the_level_in_force():
    hook, model, plan, _ = begun(sparsity=0.6)
    total = sum(unit.weight.numel() for unit in hook._units)
    for step in range(100):
        hook.after_step(step)
        level = 0.6 * (1 - (1 - min(1.0, (step + 1) / 60)) ** 3)
        zeros = sum(int((model[int(name)].weight == 0).sum()) for name in plan.levels)
        assert abs(zeros - level * total) <= 3  # the last unit of a layer may lie on its threshold
    before = {name: model[int(name)].weight.detach().clone() for name in plan.levels}
    hook.end()
    assert sum(int((~mask).sum()) for mask in masks(model).values()) == plan.zeros
    for name, value in before.items():
        torch.testing.assert_close(model[int(name)].weight, value, atol=2e-3, rtol=0)


def test_without_strength_the_thresholds_are_free():
    hook, _, plan, _ = begun(strength=0.0)
    for step in range(50):
        hook.after_step(step)
    assert all(float(value.detach()) == -5.0 for value in hook._thresholds)
    hook.end()
    assert sum(int((unit.weight * unit.mask.mask == 0).sum()) for unit in hook._units) == plan.zeros
