"""A run that is killed and started again ends with the numbers of one that was not, bit for bit."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file

from secateur.files import read_json
from secateur.recipe import Distillation, MaskRule
from secateur.sparsity import AgpEpochs, Sparsifier, SpliceRule, ThresholdSparsifier, plan_sparsity
from secateur.training import History, fit

FLAGS = ("--norm", "--sparse", "--teacher")


def place_of(checkpoint: Path) -> dict:
    with safetensors.safe_open(checkpoint, framework="pt") as file:
        return json.loads(file.metadata()["secateur"])["place"]


def without_seconds(history: History) -> History:
    return History(tuple(replace(row, seconds=0.0) for row in history.rows))


def start(job, folder, optimizer="sgd", stop=None):
    """The job with everything at once, in this process."""
    model = job.network()
    if stop is not None:
        job.stop_before_step(model, stop)
    history = fit(
        model,
        job.images(),
        job.settings(optimizer=optimizer),
        folder=folder,
        preprocessing=job.PREPROCESSING,
        distillation=Distillation.model_validate({}),
        sparsifier=job.sparsifier(model),
    )
    return model, history


def assert_same_state(one, other):
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def assert_same_run(folder: Path, final: dict, history: History) -> None:
    assert without_seconds(History.from_dict(read_json(folder / "history.json"))) == without_seconds(history)
    stored = load_file(folder / "final.0.safetensors")
    assert stored.keys() == final.keys()
    for name, value in final.items():
        assert torch.equal(stored[name], value), name


def test_kill_9_in_the_middle_of_an_epoch(job, run_job, tmp_path):
    model, history = start(job, tmp_path / "unbroken")

    killed = tmp_path / "killed"
    process = run_job(killed, *FLAGS, "--pause", 0.1)
    checkpoint = killed / "checkpoint.safetensors"
    for _ in range(1200):
        if checkpoint.exists() and (place := place_of(checkpoint))["epoch"] == 1 and 4 <= place["batch"] <= 8:
            break
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    place = place_of(checkpoint)
    assert not place["finished"] and place["epoch"] == 1 and 4 <= place["batch"] < 12

    again = run_job(killed, *FLAGS)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert_same_run(killed, model.state_dict(), history)


@pytest.mark.parametrize(("optimizer", "stop"), [("sgd", 1), ("sgd", 11), ("sgd", 12), ("adamw", 13), ("adamw", 35)])
def test_stopped_after_any_step(job, tmp_path, optimizer, stop):
    model, history = start(job, tmp_path / "unbroken", optimizer)
    with pytest.raises(job.StoppedError):
        start(job, tmp_path / "broken", optimizer, stop)
    place = place_of(tmp_path / "broken" / "checkpoint.safetensors")
    assert place["epoch"] * 12 + place["batch"] == stop

    resumed, resumed_history = start(job, tmp_path / "broken", optimizer)
    assert without_seconds(resumed_history) == without_seconds(history)
    assert_same_state(resumed, model)


class Recording(Sparsifier):
    """Remembers when masks were asked for."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.positions = []

    def update_(self, position):
        self.positions.append(position)
        return super().update_(position)


def test_masks_are_chosen_once_an_epoch(job, tmp_path):
    """A run resumed in the middle of an epoch does not choose them again: the weights have moved."""

    def run(folder, stop=None):
        model = job.network()
        if stop is not None:
            job.stop_before_step(model, stop)
        plan = plan_sparsity(model, 0.5, "unstructured", base="selected")
        masks = Recording(model, plan, AgpEpochs(0, 3, 1, 0.1, 0.5))
        try:
            fit(model, job.images(), job.settings(), folder=folder, preprocessing=job.PREPROCESSING, sparsifier=masks)
        except job.StoppedError:
            assert stop is not None
        return model, masks.positions

    whole, positions = run(tmp_path / "whole")
    assert positions == [0, 1, 2]
    _, positions = run(tmp_path / "broken", stop=17)
    assert positions == [0, 1]
    resumed, positions = run(tmp_path / "broken")
    assert positions == [2]
    assert_same_state(resumed, whole)


RULES = {
    "every step": {"update": "every_step"},
    "backup": {"update": "backup", "reset_optimizer": True},
    "double copies": {"gradients": "all", "every_steps": 5},
    "first step": {"skip_first_step": True, "every_steps": 4},
    "discard": {"discard_after_step": True, "every_steps": 4},
    "lift": {"keep_at_end": False},
}


@pytest.mark.parametrize(("name", "thresholds"), [*((name, False) for name in RULES), ("backup", True), ("lift", True)])
def test_every_mask_rule_goes_on_in_the_middle_of_an_epoch(job, tmp_path, name, thresholds):
    def run(folder, stop=None):
        model = job.network()
        if stop is not None:
            job.stop_before_step(model, stop)
        plan, rule = plan_sparsity(model, 0.5, "unstructured", base="selected"), MaskRule(**RULES[name])
        if thresholds:
            splice = SpliceRule(sensitivities=dict.fromkeys(plan.levels, 0.1), growth=0.5, end=2)
            masks = ThresholdSparsifier(model, plan, splice, rule)
        else:
            masks = Sparsifier(model, plan, AgpEpochs(0, 2, 1, 0.1, 0.5), rule=rule)
        settings = job.settings(decay="plateau", decay_patience=0, average_weights=0.9, keep="best_top5")
        fit(model, job.images(), settings, folder=folder, preprocessing=job.PREPROCESSING, sparsifier=masks)
        return model

    whole = run(tmp_path / "whole")
    with pytest.raises(job.StoppedError):
        run(tmp_path / "broken", stop=18)
    assert_same_state(run(tmp_path / "broken"), whole)


def test_a_finished_run_returns_at_once(job, tmp_path):
    model, history = start(job, tmp_path)
    before = (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns
    assert place_of(tmp_path / "checkpoint.safetensors")["finished"]
    (tmp_path / "history.json").unlink()
    fresh = job.network()

    def compute(_module: object, inputs: tuple[torch.Tensor], _output: object) -> None:
        # The layout is found with two empty images.
        assert not inputs[0].any() and len(inputs[0]) == 2, "a finished run computed something"

    fresh[0].register_forward_hook(compute)
    again = fit(
        fresh,
        job.images(),
        job.settings(),
        folder=tmp_path,
        preprocessing=job.PREPROCESSING,
        distillation=Distillation.model_validate({}),
        sparsifier=job.sparsifier(fresh),
    )
    assert again == history == History.from_dict(read_json(tmp_path / "history.json"))
    assert (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns == before
    assert_same_state(fresh, model)
