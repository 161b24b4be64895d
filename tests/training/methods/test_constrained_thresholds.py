"""Thresholds under one constraint: gradients by hand, the level they begin at, the count they end with."""

import pytest
import torch
from torch import nn

from secateur.recipe import Training
from secateur.sparsity import masks, plan_sparsity
from secateur.training.hooks import Scene
from secateur.training.methods.constrained_thresholds import ConstrainedThresholds
from secateur.training.optimizer import build_optimizer


def begun(pattern="unstructured", sparsity=0.5, rate=0.1, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 8), nn.Linear(8, 3))
    plan = plan_sparsity(model, sparsity, pattern, base="selected")
    config = Training.model_validate({"learning_rate": rate, "momentum": 0.0})
    optimizer = build_optimizer(model, config)
    hook = ConstrainedThresholds(plan, **settings)
    hook.begin(Scene(model, optimizer, None, config, 1, 0))
    return hook, model, plan


def zeros_of(model, plan):
    return {name: int((model[int(name)].weight == 0).sum()) for name in plan.levels}


@pytest.mark.parametrize("pattern", ["unstructured", "1x2"])
def test_each_layer_begins_at_its_level(pattern):
    _, model, plan = begun(pattern)
    assert zeros_of(model, plan) == {layer.name: layer.zeros for layer in plan.layers if layer.level is not None}
    for name in plan.levels:
        module = model[int(name)]
        assert ((module.weight == 0) | (module.weight == module.parametrizations.weight.original)).all()


def test_the_gradients_by_hand():
    """d loss / d a = -sigmoid'(a) (sum of w g) for the task; d w = g m + g w sign(w), straight through the step."""
    hook, model, _ = begun()
    weight = model[0].weight
    g = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    (weight * g).sum().backward()
    stored, threshold = model[0].parametrizations.weight.original, hook._thresholds[0]
    s = threshold.detach().sigmoid()
    dense = stored.detach()
    assert float(threshold.grad) == pytest.approx(-float(s * (1 - s) * (dense.double() * g).sum()), rel=1e-5)
    kept = (dense.abs() > s).float()
    torch.testing.assert_close(stored.grad, g * kept + g * dense * dense.sign())


@pytest.mark.parametrize("squared", [False, True])
def test_the_constraint_is_the_gap_of_the_whole_network(squared):
    hook, model, plan = begun(strength=3.0, squared=squared)
    with torch.no_grad():
        hook._thresholds[0].fill_(20.0)  # the whole first layer goes
    found = sum(zeros_of(model, plan).values())
    total = sum(model[int(name)].weight.numel() for name in plan.levels)
    gap = (found - plan.zeros) / total
    assert gap > 0.1
    assert float(hook.extra_loss(model, 0)) == pytest.approx(3.0 * (gap**2 if squared else gap))


def test_too_sparse_a_network_lowers_its_thresholds():
    hook, model, plan = begun(sparsity=0.5, rate=1.0)
    with torch.no_grad():
        for threshold in hook._thresholds:
            threshold += 0.5
    before = sum(zeros_of(model, plan).values())
    for step in range(400):
        hook.extra_loss(model, step).backward()
        hook.after_step(step)
    after = sum(zeros_of(model, plan).values())
    assert before > plan.zeros and abs(after - plan.zeros) < 0.2 * (before - plan.zeros)


@pytest.mark.parametrize("pattern", ["unstructured", "1x2"])
def test_the_end_has_exactly_the_zeros_of_the_plan(pattern):
    hook, model, plan = begun(pattern)
    with torch.no_grad():
        hook._thresholds[0] += 0.3
    hook.end()
    assert hook.ended and sum(int((~mask).sum()) for mask in masks(model).values()) == plan.zeros
    assert sum(zeros_of(model, plan).values()) == plan.zeros
    # The layer whose threshold rose gave more.
    assert int((~masks(model)["0"]).sum()) > next(layer.zeros for layer in plan.layers if layer.name == "0")
    first = {name: mask.clone() for name, mask in masks(model).items()}
    hook.end()
    assert all(torch.equal(mask, first[name]) for name, mask in masks(model).items())
    assert hook.extra_loss(model, 0) is None


def test_its_state_comes_back():
    hook, model, _ = begun()
    hook.extra_loss(model, 0).backward()
    hook.after_step(0)
    other, twin, _ = begun()
    other.restore(hook.state())
    assert [float(value) for value in other._thresholds] == [float(value) for value in hook._thresholds]
    hook.end()
    other.restore(hook.state())
    assert other.ended
    assert torch.equal(twin[0].weight, twin[0].parametrizations.weight.original)
