"""Every method in the loop: it ends with exactly the planned zeros, it learns, and a broken run goes on bit for bit."""

from dataclasses import replace

import pytest
import torch

from secateur.recipe import AcDc, Admm, ProbMask, RigL, Str
from secateur.sparsity import Sparsifier, fold_masks_, masks, plan_sparsity
from secateur.training import fit
from secateur.training.methods import AcDcPhases, AdmmPull, DropAndGrow, LearnedThresholds, MaskProbabilities

SPARSITY = 0.6
SHORT = {"epochs": 3, "batch_size": 32}  # three steps an epoch
METHODS = {
    "probmask": (MaskProbabilities, ProbMask.model_validate({"score_learning_rate": 0.02})),
    "str": (LearnedThresholds, Str.model_validate({})),
    "admm": (AdmmPull, Admm.model_validate({"rho": 0.01})),
    "acdc": (AcDcPhases, AcDc.model_validate({"last": 1})),
    "rigl": (DropAndGrow, RigL.model_validate({"every": 2})),
}


def train(job, method, folder, pattern="unstructured", stop=None, **settings):
    model = job.network()
    if stop is not None:
        job.stop_before_step(model, stop)
    plan = plan_sparsity(model, SPARSITY, pattern, base="selected", include_first=True)
    kind, config = METHODS[method]
    history = fit(
        model,
        job.images(),
        job.settings(augment=False, **settings),
        folder=folder,
        preprocessing=job.PREPROCESSING,
        sparsifier=Sparsifier(model, plan) if method == "rigl" else None,
        hooks=[kind(plan, config)],
    )
    return model, plan, history


def leftovers(model):
    return [name for name, module in model.named_modules() if module._forward_hooks and "parametrizations" in name]


@pytest.mark.parametrize("method", METHODS)
def test_it_learns_and_ends_with_the_planned_zeros(job, tmp_path, method):
    model, plan, history = train(job, method, tmp_path, epochs=8, batch_size=16, learning_rate=0.1)
    assert sum(int((~mask).sum()) for mask in masks(model).values()) == plan.zeros
    assert history.last.top1 > 50  # chance is 17
    assert leftovers(model) == []
    images = torch.rand(2, 3, job.SIDE, job.SIDE)
    expected = model.eval()(images)
    fold_masks_(model)
    torch.testing.assert_close(model(images), expected)
    zeros = sum(int((model.get_submodule(name).weight == 0).sum()) for name in plan.levels)
    assert zeros == plan.zeros


@pytest.mark.parametrize("method", METHODS)
def test_blocks_go_as_a_whole(job, tmp_path, method):
    model, plan, _ = train(job, method, tmp_path, pattern="1x4", **SHORT)
    gone = 0
    for name, mask in masks(model).items():
        sums = mask.reshape(-1, 4, mask[0].numel()).sum(1)
        assert set(sums.unique().tolist()) <= {0, 4}, name
        gone += int((~mask).sum())
    assert plan.zeros - 36 < gone <= plan.zeros


@pytest.mark.parametrize("stop", [2, 4])
@pytest.mark.parametrize("method", METHODS)
def test_stopped_and_resumed(job, tmp_path, method, stop):
    whole, _, history = train(job, method, tmp_path / "whole", **SHORT)
    with pytest.raises(job.StoppedError):
        train(job, method, tmp_path / "broken", stop=stop, **SHORT)
    resumed, _, again = train(job, method, tmp_path / "broken", **SHORT)
    assert [replace(row, seconds=0.0) for row in again.rows] == [replace(row, seconds=0.0) for row in history.rows]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    finished, _, _ = train(job, method, tmp_path / "broken", **SHORT)
    assert all(torch.equal(finished.state_dict()[name], value) for name, value in whole.state_dict().items())
    assert leftovers(finished) == []
