"""ADMM: the penalty has a gradient, the dual grows as it should, any pattern is met."""

import pytest
import torch
from torch import nn

from secateur.recipe import Admm, Training
from secateur.sparsity import masks, plan_sparsity
from secateur.training.hooks import Scene
from secateur.training.methods.admm import AdmmPull
from secateur.training.optimizer import build_optimizer


def begun(pattern="unstructured", sparsity=0.5, epochs=9, rho=0.1):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3))
    plan = plan_sparsity(model, sparsity, pattern, base="selected")
    config = Training.model_validate({"epochs": epochs})
    hook = AdmmPull(plan, Admm.model_validate({"rho": rho}))
    hook.begin(Scene(model, build_optimizer(model, config), None, config, 10, 0))
    return hook, model


def test_the_penalty_and_its_gradient_by_hand():
    hook, model = begun()
    weight = model[0].parametrizations.weight.original
    lowest = weight.detach().abs().flatten().sort().values[:32]
    removed = [
        (module.parametrizations.weight.original.detach().abs().flatten().sort().values[:32]) for module in model[:2]
    ]
    loss = hook.extra_loss(model, 0)
    assert float(loss.detach()) == pytest.approx(0.05 * float(sum(part.square().sum() for part in removed)), rel=1e-5)
    loss.backward()
    small = weight.detach().abs() <= lowest[-1]
    torch.testing.assert_close(weight.grad, 0.1 * weight.detach() * small)


def test_the_dual_update_by_hand():
    hook, model = begun()
    weight = model[0].parametrizations.weight.original
    with torch.no_grad():
        weight[0, 0] = 5.0
        weight[0, 1] = 1e-4
    hook.before_epoch(0)
    assert not hook._u[0].any()
    hook.before_epoch(1)
    # Z is W where W is large, so U stays; where W is small Z is zero, and U takes all of W.
    assert hook._z[0][0, 0] == 5.0 and hook._u[0][0, 0] == 0.0
    assert hook._z[0][0, 1] == 0.0 and float(hook._u[0][0, 1]) == pytest.approx(1e-4)
    assert int((hook._z[0] == 0).sum()) == 32
    hook.before_epoch(2)
    assert float(hook._u[0][0, 1]) == pytest.approx(2e-4)


def test_the_cut_comes_after_its_share_and_the_pull_ends():
    hook, model = begun()
    assert all(mask.all() for mask in masks(model).values())
    hook.before_epoch(3)
    assert all(int((~mask).sum()) == 32 for mask in masks(model).values())
    assert hook.extra_loss(model, 30) is None and hook.extra_loss(model, 29) is not None
    assert set(hook.state()) == {"done"}


@pytest.mark.parametrize("pattern", ["1x4", "2:4", "4in"])
def test_any_pattern(pattern):
    hook, model = begun(pattern, epochs=1)
    hook.before_epoch(0)
    hook.end()
    mask = masks(model)["0"]
    assert int((~mask).sum()) == 32
    if pattern == "2:4":
        assert (mask.reshape(8, 2, 4).sum(2) == 2).all()
    else:
        blocks = mask.reshape(2, 4, 8).sum(1) if pattern == "1x4" else mask.reshape(8, 2, 4).sum(2)
        assert set(blocks.unique().tolist()) == {0, 4}


def test_the_pull_moves_weights_to_the_pattern():
    hook, model = begun(rho=1.0)
    weights = [module.parametrizations.weight.original for module in model[:2]]
    far = float(hook.extra_loss(model, 0).detach())
    for epoch in range(3):
        hook.before_epoch(epoch)
        for step in range(10):
            loss = hook.extra_loss(model, 10 * epoch + step)
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight -= 0.1 * gradient
    z = [hook._projected(number, weight.detach()) for number, weight in enumerate(weights)]
    near = 0.5 * sum(float((w.detach() - p).square().sum()) for w, p in zip(weights, z, strict=True))
    assert near < 0.05 * far
