"""Regularisers: penalties and gradients by hand, thresholds, masks that stay, all groups."""

import pytest
import torch
from torch import nn

from secateur.errors import SparsityError, TrainingError
from secateur.recipe import Regularizer, Training
from secateur.sparsity import masks
from secateur.training import fit
from secateur.training.hooks import Scene
from secateur.training.optimizer import build_optimizer
from secateur.training.regularize import Regularization, above, group_norms, layers_for, penalty


def regularizer(kind="l1", strength=0.1, **settings):
    return Regularizer.model_validate({"kind": kind, "strength": strength, **settings})


def begun(model, **settings):
    config = Training.model_validate({"learning_rate": 0.5, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0})
    optimizer = build_optimizer(model, config)
    hook = Regularization(regularizer(**settings))
    hook.begin(Scene(model, optimizer, None, config, 1, 0))
    return hook, optimizer


def step(hook, model, optimizer, number=0):
    hook.before_step(number)
    optimizer.zero_grad()
    hook.extra_loss(model, number).backward()
    optimizer.step()
    hook.after_step(number)


def linear(*rows):
    model = nn.Linear(len(rows[0]), len(rows), bias=False)
    model.weight.data = torch.tensor(rows)
    return model


def test_a_step_of_a_single_weight():
    """w - rate * strength * sign(w), and zero where less than the strength is left."""
    model = nn.Sequential(linear([1.0], [-0.3], [0.12], [-0.149]))
    hook, optimizer = begun(model, threshold="max")
    step(hook, model, optimizer)
    torch.testing.assert_close(model[0].weight.flatten(), torch.tensor([0.95, -0.25, 0.0, 0.0]))
    plain = nn.Sequential(linear([1.0], [-0.3], [0.12], [-0.149]))
    hook, optimizer = begun(plain)
    step(hook, plain, optimizer)
    torch.testing.assert_close(plain[0].weight.flatten(), torch.tensor([0.95, -0.25, 0.07, -0.099]))


def test_the_gradient_of_a_groups_norm():
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]], requires_grad=True)
    value = penalty(weight, "group_lasso", "column")
    assert float(value.detach()) == pytest.approx(7.0)
    value.backward()
    torch.testing.assert_close(weight.grad, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, -1.0]]))


def test_the_variance_of_norms():
    weight = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, -3.0]])  # norms 5, 1, 3: variance 4
    assert float(penalty(weight, "group_variance", "filter")) == pytest.approx(0.25)


def test_every_group_of_a_kernel_tensor():
    weight = torch.arange(24.0).reshape(2, 3, 2, 2) + 1
    expected = {
        "kernel": weight.square().sum((2, 3)).sqrt().flatten(),
        "filter": weight.square().sum((1, 2, 3)).sqrt(),
        "channel": weight.square().sum((0, 2, 3)).sqrt(),
        "layer": weight.square().sum().sqrt().reshape(1),
    }
    expected["channel+layer"] = torch.cat([expected["channel"], expected["layer"]])
    for group, norms in expected.items():
        torch.testing.assert_close(group_norms(weight, group), norms)
        assert float(penalty(weight, "group_lasso", group)) == pytest.approx(float(norms.sum()), rel=1e-6)


def test_every_group_of_a_matrix():
    weight = torch.tensor([[3.0, 1.0], [4.0, -1.0], [0.0, 1.0]])  # (out, in): rows are input features
    assert group_norms(weight, "row").tolist() == pytest.approx([5.0, 3**0.5])
    assert group_norms(weight, "column").tolist() == pytest.approx([10**0.5, 17**0.5, 1.0])
    assert group_norms(weight, "row+column").numel() == 5
    assert group_norms(weight, "kernel").tolist() == [3, 1, 4, 1, 0, 1]


def test_thresholds_of_groups():
    weight = torch.tensor([[0.5, 0.0], [0.2, 0.2], [0.0, 0.3]])
    rows = {
        ("column", "max"): [True, False, True],
        ("column", "mean_abs"): [True, False, False],
    }
    for (group, of), expected in rows.items():
        assert above(weight, "group_lasso", group, of, 0.25)[:, 0].tolist() == expected
    both = above(weight, "group_lasso", "row+column", "max", 0.4)
    assert both.tolist() == [[True, False], [False, False], [False, False]]
    assert above(weight, "l1", "filter", "max", 0.25).tolist() == [[True, False], [False, False], [False, True]]


def test_removed_groups_come_back_unless_the_mask_is_kept():
    for keep in (False, True):
        model = nn.Sequential(linear([1.0, 1.0], [0.1, 0.1]))
        hook, optimizer = begun(
            model, kind="group_lasso", group="column", threshold="max", strength=0.2, keep_mask=keep
        )
        step(hook, model, optimizer)
        assert model[0].weight[0].all() and not model[0].weight[1].any()
        weight = model[0].parametrizations.weight.original if keep else model[0].weight
        weight.data[1] = 2.0
        hook.before_step(1)
        assert bool(model[0].weight[1].any()) is not keep
        if keep:
            masks(model)["0"].fill_(True)  # a sparsifier chose again
            hook.before_step(2)
            assert not model[0].weight[1].any()


def test_names_and_groups_that_do_not_fit_are_sentences():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2))
    assert [layer.name for layer in layers_for(model, regularizer("group_lasso", group="row"))] == ["1"]
    assert [layer.name for layer in layers_for(model, regularizer("group_lasso", group="kernel"))] == ["0", "1"]
    with pytest.raises(TrainingError, match="none of the layers 0 has groups of kind 'column'"):
        layers_for(model, regularizer("group_lasso", group="column", layers=["0"]))
    with pytest.raises(TrainingError, match="a layer of one group has no variance"):
        layers_for(model, regularizer("group_variance", group="layer"))
    with pytest.raises(SparsityError, match="unknown layer or glob 'conv'"):
        layers_for(model, regularizer(layers=["conv"]))


@pytest.mark.parametrize("stop", [4, 6])
def test_in_the_loop_it_removes_filters_and_a_broken_run_goes_on(job, tmp_path, stop):
    config = regularizer("group_lasso", 0.06, threshold="mean_abs", keep_mask=True, layers=["0", "3"])

    def run(folder, stop=None):
        model = job.network()
        if stop is not None:
            job.stop_before_step(model, stop)
        fit(
            model,
            job.images(),
            job.settings(epochs=2, batch_size=16),
            folder=folder,
            preprocessing=job.PREPROCESSING,
            hooks=[Regularization(config)],
        )
        return model

    whole = run(tmp_path / "whole")
    gone = [(~mask).flatten(1).all(1) for mask in masks(whole).values()]
    assert any(filters.any() for filters in gone) and not all(filters.all() for filters in gone)
    with pytest.raises(job.StoppedError):
        run(tmp_path / "broken", stop)
    resumed = run(tmp_path / "broken")
    assert all(torch.equal(resumed.state_dict()[name], value) for name, value in whole.state_dict().items())
