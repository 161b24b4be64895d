"""Feature distillation: the distance by hand, what is refused, and that it pulls."""

import pytest
import torch
from torch import nn

from secateur.errors import TrainingError
from secateur.recipe import Distillation, Training
from secateur.training import distill, fit
from secateur.training.features import FeatureMatch, chosen_layers
from secateur.training.hooks import Scene
from secateur.training.optimizer import build_optimizer


def begun(student, teacher, features):
    config = Training.model_validate({})
    hook = FeatureMatch(features)
    hook.begin(Scene(student, build_optimizer(student, config), teacher, config, 1, 0))
    return hook


def network(seed, width=6):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36 * width, 4))


def test_the_distance_by_hand():
    """Maps as the layer gives them, also in front of an activation that works in place."""
    student, teacher, images = network(0).train(), network(1).eval(), torch.randn(5, 3, 8, 8)
    hook = begun(student, teacher, {"0": 2.0, "3": 0.5})
    student(images), teacher(images)
    found = hook.extra_loss(student, 0)
    maps = (student[0](images) - teacher[0](images)).square().mean()
    logits = (student[:](images) - teacher(images)).square().mean()
    torch.testing.assert_close(found, 2 * maps + 0.5 * logits)
    found.backward()
    assert student[0].weight.grad.any() and teacher[0].weight.grad is None
    hook.close()
    assert not student[0]._forward_hooks and not teacher[0]._forward_hooks


def test_layers_by_glob_the_later_one_counts():
    model = network(0)
    assert chosen_layers(model, {"*": 1.0, "3": 0.0, "0": 2.0}) == {"0": 2.0, "1": 1.0, "2": 1.0}
    with pytest.raises(TrainingError, match=r"features: unknown layer or glob 'layer\*'"):
        chosen_layers(model, {"layer*": 1.0})


def test_networks_that_do_not_match_are_sentences():
    student, images = network(0).train(), torch.randn(2, 3, 8, 8)
    with pytest.raises(TrainingError, match="the teacher has no layer '3'"):
        begun(student, network(1)[:3], {"3": 1.0})
    with pytest.raises(TrainingError, match="need a teacher"):
        begun(student, None, {"3": 1.0})
    other = network(1, width=5).eval()
    hook = begun(student, other, {"0": 1.0})
    student(images), other(images)
    with pytest.raises(TrainingError, match=r"layer '0' gives \(2, 6, 6, 6\) in the student and \(2, 5, 6, 6\) in the"):
        hook.extra_loss(student, 0)


def test_a_recipe_s_features_pull_the_maps_together(job, tmp_path):
    teacher, distances = job.network(dropout=0.0), []
    torch.manual_seed(9)
    images = torch.randn(8, 3, job.SIDE, job.SIDE)
    for features in ({}, {"3": 5.0}):
        student = job.network(dropout=0.0)
        with torch.no_grad():
            student[3].weight.copy_(torch.randn_like(student[3].weight) * 0.1)
        distill(
            student,
            teacher,
            job.images(),
            job.settings(epochs=2),
            folder=tmp_path / str(len(features)),
            distillation=Distillation.model_validate({"features": features}),
            preprocessing=job.PREPROCESSING,
        )
        with torch.no_grad():
            distances.append(float((student[:4].eval()(images) - teacher[:4].eval()(images)).square().mean()))
    assert distances[1] < 0.5 * distances[0]


def test_the_features_belong_to_the_run(job, tmp_path):
    def train(**settings):
        fit(
            job.network(),
            job.images(),
            job.settings(epochs=1, batch_size=48),
            folder=tmp_path,
            preprocessing=job.PREPROCESSING,
            distillation=Distillation.model_validate(settings),
        )

    train(features={"0": 1.0})
    with pytest.raises(TrainingError, match="belongs to another run"):
        train(features={"0": 2.0})
