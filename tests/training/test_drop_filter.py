"""DropFilter: who drops out, how the others make up for it, and that it ends with the training."""

import pytest
import torch
from torch import nn

from secateur.errors import TrainingError
from secateur.recipe import Regularizer, Training
from secateur.training import fit
from secateur.training.drop_filter import DropFilters, drawn
from secateur.training.hooks import Scene
from secateur.training.optimizer import build_optimizer


def hook(strength=0.5, **settings):
    return DropFilters(Regularizer.model_validate({"kind": "drop_filter", "strength": strength, **settings}))


def begun(model, **settings):
    config = Training.model_validate({})
    found = hook(**settings)
    found.begin(Scene(model, build_optimizer(model, config), None, config, 1, 4))
    return found


def test_filters_drop_out_as_a_whole_and_the_bias_stays():
    model = nn.Sequential(nn.Conv2d(2, 16, 3), nn.Conv1d(1, 1, 1), nn.Linear(4, 4)).train()
    images = torch.randn(3, 2, 5, 5)
    plain, bias = model[0](images), model[0].bias.reshape(-1, 1, 1)
    found = begun(model, layers=["0", "2"])
    found.before_step(7)
    factors = drawn(4, 7, "0", 16, 0.5)
    assert set(factors.tolist()) == {0.0, 2.0}
    torch.testing.assert_close(model[0](images), (plain - bias) * factors.reshape(-1, 1, 1) + bias)
    before = model[0](images)
    found.before_step(8)
    assert not torch.equal(model[0](images), before)
    torch.testing.assert_close(model.eval()[0](images), plain)
    model.train()
    found.close()
    torch.testing.assert_close(model[0](images), plain)


def test_the_mean_stays_what_it_was():
    draws = torch.stack([drawn(0, step, "a", 50, 0.3) for step in range(400)])
    assert float(draws.mean()) == pytest.approx(1.0, abs=0.02)
    assert torch.equal(draws[3], drawn(0, 3, "a", 50, 0.3)) and not torch.equal(draws[3], drawn(0, 3, "b", 50, 0.3))


def test_a_strength_of_one_is_no_probability():
    with pytest.raises(TrainingError, match="1 is no probability below 1"):
        hook(1.0)


def test_a_network_learns_with_it(job, tmp_path):
    model = job.network()
    settings = job.settings(epochs=8, learning_rate=0.1, augment=False)
    history = fit(model, job.images(), settings, folder=tmp_path, preprocessing=job.PREPROCESSING, hooks=[hook(0.2)])
    assert history.last.top1 > 50 and not model[0]._forward_hooks
