"""Network slimming: the penalty by hand, and its three steps in one recipe."""

import pytest
import torch
from torch import nn

from secateur.channels import RemovalPlan
from secateur.errors import RecipeError, TrainingError
from secateur.export import load_weights
from secateur.pipeline import Context, run_recipe
from secateur.recipe import Regularizer, Training, build_recipe
from secateur.training.hooks import Scene
from secateur.training.optimizer import build_optimizer
from secateur.training.slimming import NormScalePenalty


def begun(model, **settings):
    config = Training.model_validate({"learning_rate": 0.5, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0})
    optimizer = build_optimizer(model, config)
    hook = NormScalePenalty(Regularizer.model_validate({"kind": "norm_l1", "strength": 0.1, **settings}))
    hook.begin(Scene(model, optimizer, None, config, 1, 0))
    return hook, optimizer


def network():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1), nn.BatchNorm2d(1))
    model[1].weight.data = torch.tensor([0.5, -2.0])
    return model


def test_a_step_moves_every_scale_towards_zero_by_rate_times_strength_and_nothing_else():
    model = network()
    before = {name: value.clone() for name, value in model.named_parameters()}
    hook, optimizer = begun(model)
    loss = hook.extra_loss(model, 0)
    assert float(loss.detach()) == pytest.approx(0.1 * (0.5 + 2 + 1))
    loss.backward()
    optimizer.step()
    torch.testing.assert_close(model[1].weight.detach(), torch.tensor([0.45, -1.95]))
    torch.testing.assert_close(model[3].weight.detach(), torch.tensor([0.95]))
    assert all(
        torch.equal(value, before[n]) for n, value in model.named_parameters() if n not in ("1.weight", "3.weight")
    )


def test_layers_are_those_of_norms():
    hook, _ = begun(network(), layers=["3"])
    assert float(hook.extra_loss(None, 0).detach()) == pytest.approx(0.1)
    with pytest.raises(TrainingError, match="unknown batch norm '7'"):
        begun(network(), layers=["7"])
    with pytest.raises(TrainingError, match="no batch norm"):
        begun(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="no group, threshold or keep_mask"):
        Regularizer(kind="norm_l1", strength=0.1, threshold="max")


def slimming(strength):
    training = {"epochs": 4, "batch_size": 16, "learning_rate": 0.05, "weight_decay": 0.0}
    penalty = [{"kind": "norm_l1", "strength": strength}] if strength else []
    stages = [
        {"stage": "train", "training": training, "regularize": penalty},
        {"stage": "remove_channels", "criterion": "bn_scale", "scope": "global", "normalize": "none",
         "base": "channels", "target": 0.5, "training": {"epochs": 1, "batch_size": 16}},
    ]  # fmt: skip
    return build_recipe({"model": {"name": "tiny_networks:network"}, "data": {"name": "tiny_networks:images"},
                         "stages": stages})  # fmt: skip


def test_penalty_threshold_and_removal_in_one_recipe(tmp_path):
    context = Context.of(slimming(0.1), tmp_path / "slim")
    record = run_recipe(context)
    plan = RemovalPlan.from_dict(record.results("remove_channels")[0]["removals"][0])
    # Only the stem has a norm: half of the channels with a scale go there, those of the smallest ones.
    reasons = {group.name: group.reason for group in plan.groups}
    assert reasons["body"] == "the criterion has no scores for its layers"
    trained, _ = load_weights(next((tmp_path / "slim" / "stages").glob("*train*/model.safetensors")))
    scales = trained["norm.weight"].abs()
    kept = next(cut.kept for cut in plan.cuts if cut.tensor == "stem.weight")
    assert set(kept) == set(scales.argsort(descending=True)[:4].tolist())
    assert context.network.stem.out_channels == 4

    # Without the penalty the scales stay near one.
    run_recipe(Context.of(slimming(0.0), tmp_path / "plain"))
    plain, _ = load_weights(next((tmp_path / "plain" / "stages").glob("*train*/model.safetensors")))
    assert scales.sum() < 0.8 * plain["norm.weight"].abs().sum()


def test_a_penalty_on_norms_is_for_training_stages_only():
    with pytest.raises(RecipeError, match="regularize"):
        build_recipe({"model": {"name": "x"}, "stages": [{"stage": "evaluate", "regularize": []}]})
