"""The average of the weights: its recursion, what it lies over, and that a killed run goes on with it."""

import pytest
import torch
from torch import nn

from secateur.recipe import Training
from secateur.sparsity import masks
from secateur.training import evaluate, fit
from secateur.training.average import WeightAverage
from secateur.training.hooks import Hook, Scene


def scene(model, epochs=1):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Scene(model, optimizer, None, Training(epochs=epochs), 4, 0)


def test_the_recursion():
    """d = 1/10, 2/11, 3/12 and then .25;  w = 10, 20, 30, 40 after the steps, 0 before."""
    model = nn.Linear(1, 1, bias=False).double()
    model.weight.data.fill_(0.0)
    hook = WeightAverage(0.25)
    hook.begin(scene(model))
    expected = 0.0
    for step, decay in enumerate((1 / 10, 2 / 11, 1 / 4, 1 / 4)):
        model.weight.data.fill_(10.0 * (step + 1))
        hook.after_step(step)
        expected = decay * expected + (1 - decay) * 10.0 * (step + 1)
        assert hook.state()["weight"].item() == pytest.approx(expected, rel=1e-12)
        assert model.weight.item() == 10.0 * (step + 1), "the weights themselves go on"


class Watch(Hook):
    """Reads the weights of the first layer after every step and at every evaluation."""

    def begin(self, scene):
        self.model, self.steps, self.seen = scene.model, [], []

    def after_step(self, step):
        self.steps.append(self.model[0].weight.detach().clone())

    def after_epoch(self, row):
        self.seen.append((self.model[0].weight.detach().clone(), row.top1))


def run(job, folder, decay=0.9, stop=None, watch=None, **settings):
    model = job.network(dropout=0.0)
    sparsifier = job.sparsifier(model)
    if stop is not None:
        job.stop_before_step(model, stop)
    history = fit(
        model, job.images(), job.settings(average_weights=decay, **settings), folder=folder,
        preprocessing=job.PREPROCESSING, sparsifier=sparsifier, hooks=[watch] if watch else (),
    )  # fmt: skip
    return model, history


def test_the_average_is_evaluated_and_is_the_result(job, tmp_path):
    watch = Watch()
    model, history = run(job, tmp_path, epochs=2, watch=watch)
    (first, _), (last, _) = watch.seen
    assert not torch.equal(first, watch.steps[11]), "an evaluation sees the average"
    assert torch.equal(model[0].weight, last)
    assert evaluate(model, job.images(), job.PREPROCESSING).top1 == history.last.top1
    # the first convolution has no mask: its average follows from what it was after every step
    average = job.network(dropout=0.0)[0].weight.detach()
    for step, weight in enumerate(watch.steps):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
        if step == 11:
            assert torch.allclose(first, average, atol=1e-6)
    assert torch.allclose(last, average, atol=1e-6)


def test_the_average_is_masked_too(job, tmp_path):
    model, _ = run(job, tmp_path)
    for name, mask in masks(model).items():
        weight = model.get_submodule(name).weight
        assert not mask.all() and not weight[~mask].any() and weight[mask].all(), name


def test_averaging_does_not_change_the_training(job, tmp_path):
    one, other = Watch(), Watch()
    run(job, tmp_path / "a", decay=0.9, watch=one)
    run(job, tmp_path / "b", decay=0.1, watch=other)
    assert all(torch.equal(a, b) for a, b in zip(one.steps, other.steps, strict=True))


@pytest.mark.parametrize("stop", [5, 12, 30])
def test_a_run_that_is_broken_off_goes_on_with_its_average(job, tmp_path, stop):
    model, _ = run(job, tmp_path / "whole")
    with pytest.raises(job.StoppedError):
        run(job, tmp_path / "broken", stop=stop)
    resumed, _ = run(job, tmp_path / "broken")
    for name, value in model.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    again, _ = run(job, tmp_path / "broken")
    assert torch.equal(again[0].weight, model[0].weight), "a finished run gives its result again"


def test_broken_off_while_it_is_evaluated_the_weights_come_back():
    model = nn.Linear(1, 1, bias=False)
    hook = WeightAverage(0.9)
    hook.close()
    hook.begin(scene(model))
    model.weight.data.fill_(7.0)
    hook.before_evaluation(0)
    assert model.weight.item() != 7.0
    hook.close()
    assert model.weight.item() == 7.0
