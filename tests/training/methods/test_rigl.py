"""RigL: how much is exchanged when, which units, and that new ones start from nothing."""

import math

import pytest
import torch
from torch import nn

from secateur.recipe import RigL, Training
from secateur.sparsity import Sparsifier, masks, plan_sparsity
from secateur.training.hooks import Scene
from secateur.training.methods.rigl import DropAndGrow, drop_share, exchanged
from secateur.training.optimizer import build_optimizer

CONFIG = RigL.model_validate({"every": 10, "drop": 0.4, "end": 0.5})


def test_the_share_falls_as_a_cosine():
    assert [drop_share(CONFIG, step, 200) for step in (0, 5, 100, 150)] == [0, 0, 0, 0]
    assert drop_share(CONFIG, 50, 200) == pytest.approx(0.2)
    assert drop_share(CONFIG, 10, 200) == pytest.approx(0.2 * (1 + math.cos(0.1 * math.pi)))


def test_the_weakest_go_and_the_steepest_come():
    kept = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0]).bool()
    weights = torch.tensor([4.0, 1.0, 3.0, 2.0, 9.0, 9.0, 9.0, 9.0])
    gradients = torch.tensor([9.0, 9.0, 9.0, 9.0, 1.0, 4.0, 2.0, 4.0])
    after = exchanged(kept, weights, gradients, 0.5)
    assert after.tolist() == [True, False, True, False, False, True, False, True]
    assert torch.equal(exchanged(kept, weights, gradients, 0.2), kept)
    few = torch.tensor([1, 1, 1, 1, 1, 1, 1, 0]).bool()
    assert exchanged(few, weights, gradients, 0.9).sum() == 7


def test_one_update_by_hand():
    """A layer and a loss whose gradient is known also where weights are removed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4, bias=False), nn.Linear(4, 2))
    plan = plan_sparsity(model, 0.5, "unstructured", base="selected")
    config = Training.model_validate({"epochs": 10})
    Sparsifier(model, plan).update_(0)
    optimizer = build_optimizer(model, config)
    hook = DropAndGrow(plan, CONFIG)
    hook.begin(Scene(model, optimizer, None, config, 20, 0))
    weight, target = model[0].parametrizations.weight.original, torch.randn(4, 8)
    for step in range(10):  # momentum everywhere
        hook.before_step(step)
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        hook.after_backward(step)
    before = masks(model)["0"].clone()
    dense = (model[0].weight - target).detach()
    hook.before_step(10)
    optimizer.zero_grad()
    (0.5 * (model[0].weight - target).square().sum()).backward()
    assert torch.equal(weight.grad[~before], torch.zeros(16))
    hook.after_backward(10)
    after = masks(model)["0"]
    count = int(drop_share(CONFIG, 10, 200) * 16)
    assert count > 0 and int(after.sum()) == 16
    new, gone = after & ~before, before & ~after
    assert int(new.sum()) == int(gone.sum()) == count
    steepest = dense.abs()[~before].sort(descending=True).values[:count]
    torch.testing.assert_close(dense.abs()[new].sort(descending=True).values, steepest)
    assert not weight[new].any() and not optimizer.state[weight]["momentum_buffer"][new].any()
    assert optimizer.state[weight]["momentum_buffer"][before].all()
    assert not model[0].parametrizations.weight[0]._forward_hooks
