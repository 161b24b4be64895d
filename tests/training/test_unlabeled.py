"""Tuning on unlabelled images: nearer to the teacher, never worse than before, in time, and after a kill as without."""

import copy
import functools
import multiprocessing
import time
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from secateur.errors import TrainingError
from secateur.recipe import Tuning
from secateur.sparsity import masks, plan_sparsity, sparsify_
from secateur.training.checkpoint import digest_of
from secateur.training.distillation import soft_loss
from secateur.training.tuning import loss_form, lost, rate_at
from secateur.training.unlabeled import CHECKPOINT, tune_

LEVEL = 0.6


@functools.cache
def built():
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.5), nn.Linear(256, 6),
        )  # fmt: skip
        model[-1].weight.data *= 4
        with torch.no_grad():
            for number in range(40):
                model(images(-1 - number))
    return model


def network():
    """A teacher whose norms know their inputs."""
    return copy.deepcopy(built())


def sparse(pattern="unstructured"):
    model = network()
    sparsify_(model, LEVEL, pattern, base="selected")
    return model


def images(seed, count=16):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def epoch(number):
    return [images(100 * number + batch) for batch in range(5)]


def same_epoch(number):
    return list(epoch(0))


HELD_OUT = [images(9000, 64), images(9001, 24)]
QUICK = Tuning(learning_rate=0.01, evaluations=5)


def far(student, teacher):
    form = loss_form(QUICK)
    student, teacher = student.eval(), teacher.eval()
    with torch.no_grad():
        return sum(float(soft_loss(student(x), teacher(x), form)) * len(x) for x in HELD_OUT) / 88


def same_state(one, other):
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_it_comes_nearer_keeps_its_zeros_and_its_modes():
    model, teacher = sparse(), network()
    before, zeros, state = far(copy.deepcopy(model), teacher), masks(copy.deepcopy(model)), copy.deepcopy(teacher)
    model.train()
    history = tune_(model, teacher, epoch, HELD_OUT, QUICK, steps=120)
    assert model.training and all(norm.momentum == 0.1 for norm in model if isinstance(norm, nn.BatchNorm2d))
    assert history.rows[0].held_out == pytest.approx(before, rel=1e-3)
    after = far(model, teacher)
    assert after < 0.5 * before
    assert after == pytest.approx(history.rows[history.best].held_out, rel=1e-3)
    shares = [row.share for row in history.rows]
    gaps = [after - before for before, after in pairwise(shares)]
    assert history.rows[-1].step == 120 and shares[1] < 0.02
    assert all(gap <= 1 / 5 + 1e-6 for gap in gaps) and sum(gap > 0.19 for gap in gaps) == 3
    for name, mask in masks(model).items():
        assert torch.equal(mask, zeros[name])
        assert not model.get_submodule(name).weight[~mask].any()
    same_state(teacher, state)


def test_the_result_is_never_farther_than_what_was_given():
    model, teacher = sparse(), network()
    before = copy.deepcopy(model)
    history = tune_(model, teacher, epoch, HELD_OUT, Tuning(optimizer="sgd", learning_rate=1e6, warmup=0.0), steps=12)
    assert history.best == 0
    same_state(model, before)


def test_a_tuning_that_loses_its_way_goes_back_and_on_more_slowly(capsys):
    """At ten times the rate that suits the network; before, all of it was lost."""
    model, teacher = sparse(), network()
    before = far(copy.deepcopy(model), teacher)
    history = tune_(model, teacher, epoch, HELD_OUT, Tuning(learning_rate=0.5, warmup=0.0), steps=100)
    assert "lost its way" in capsys.readouterr().err
    assert any(lost(row.held_out, before) for row in history.rows)
    assert history.best > 0 and far(model, teacher) < 0.8 * before


def test_it_goes_on_bit_for_bit_after_it_went_back(tmp_path):
    settings = Tuning(learning_rate=0.5, warmup=0.0, checkpoint_seconds=1e-9)
    whole, killed = sparse(), sparse()
    tune_(whole, network(), epoch, HELD_OUT, settings, steps=40)

    def kill(row):
        if row.step > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_(killed, network(), epoch, HELD_OUT, settings, steps=40, folder=tmp_path, on_progress=kill)
    killed = sparse()
    tune_(killed, network(), epoch, HELD_OUT, settings, steps=40, folder=tmp_path)
    same_state(whole, killed)


def test_a_dense_copy_has_nothing_to_learn():
    """The student equals the teacher, its norms frozen: the loss and the gradients are zero."""
    model, settings = network(), Tuning(optimizer="sgd", norms="frozen", weight_decay=0.0, learning_rate=1.0)
    sparsify_(model, 0.0, "unstructured")
    history = tune_(model, network(), epoch, HELD_OUT, settings, steps=3)
    assert all(row.held_out == pytest.approx(0.0, abs=1e-6) and row.agreement == 100.0 for row in history.rows)


def test_frozen_norms_keep_their_statistics():
    model = sparse()
    before = model[1].running_mean.clone(), model[1].weight.detach().clone()
    history = tune_(model, network(), epoch, HELD_OUT, Tuning(norms="frozen", learning_rate=1e-3), steps=20)
    assert history.best > 0
    assert torch.equal(model[1].running_mean, before[0]) and not torch.equal(model[1].weight, before[1])


def test_equal_steps_give_equal_numbers():
    first, second = sparse(), sparse()
    for model in (first, second):
        torch.manual_seed(id(model) % 1000)
        tune_(model, network(), epoch, HELD_OUT, QUICK, steps=15)
    same_state(first, second)


def test_remembered_answers_are_the_answers():
    one, other = sparse(), sparse()
    calls = []
    teacher = network()
    tune_(one, teacher, same_epoch, HELD_OUT, QUICK, steps=20)
    counted = network()
    counted.register_forward_hook(lambda *_: calls.append(1))
    tune_(other, counted, same_epoch, HELD_OUT, QUICK, steps=20, same_images=True)
    # Once for each image, twice for the choice of how norms work, and once for that of the memory layout.
    assert len(calls) == 5 + len(HELD_OUT) + 2 + 1
    same_state(one, other)


def test_maps_are_pulled_to_the_teachers():
    teacher, gaps = network().eval(), []
    for features in ({}, {"3": 5.0}):
        model = sparse()
        tune_(model, teacher, epoch, HELD_OUT, Tuning(learning_rate=0.01, features=features), steps=60)
        with torch.no_grad():
            gaps.append(float((model.eval()[:4](HELD_OUT[0]) - teacher[:4](HELD_OUT[0])).square().mean()))
    assert gaps[1] < 0.8 * gaps[0]


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
@pytest.mark.parametrize("kind", ["scheduled", "learned"])
def test_masks_that_move_end_with_the_zeros_of_the_plan(kind, pattern):
    model, teacher = network(), network()
    plan = plan_sparsity(model, LEVEL, pattern, base="selected")
    magnitude = masks(sparse(pattern))
    history = tune_(
        model, teacher, epoch, HELD_OUT, Tuning(learning_rate=0.003, masks=kind, evaluations=4), steps=60, plan=plan
    )
    found = masks(model)
    assert sum(int((~mask).sum()) for mask in found.values()) == plan.zeros
    assert any(not torch.equal(found[name], magnitude[name]) for name in magnitude)
    assert history.rows[history.best].counts
    if kind == "learned":
        assert not history.rows[0].counts and history.rows[-1].counts
        assert all(len(layer.parametrizations.weight[0]._forward_hooks) == 0 for layer in (model[3],))
    assert not model[3].parametrizations.weight[0].straight_through


def test_the_time_box_holds():
    model, started = sparse(), time.monotonic()
    history = tune_(model, network(), epoch, HELD_OUT, QUICK, seconds=2.0)
    # A noisy machine may lose a moment between two looks at the clock.
    assert 1.0 < time.monotonic() - started < 4.0
    assert history.rows[-1].share == 1.0 and history.rows[-1].step > 3
    assert history.rows[history.best].held_out < history.rows[0].held_out


def test_a_closed_box_gives_back_what_it_got():
    model, before = sparse(), sparse()
    history = tune_(model, network(), epoch, HELD_OUT, QUICK, seconds=1e-6)
    assert history.rows[-1].step == 0
    same_state(model, before)


class StopError(Exception):
    pass


@pytest.mark.parametrize("kind", ["static", "scheduled", "learned"])
@pytest.mark.parametrize("at", [7, 23])
def test_a_broken_run_goes_on_to_the_same_numbers(tmp_path, kind, at):
    settings = Tuning(learning_rate=0.01, masks=kind, evaluations=6, checkpoint_seconds=1e-9)

    def student():
        return sparse() if kind == "static" else network()

    plan = None if kind == "static" else plan_sparsity(network(), LEVEL, "unstructured", base="selected")
    whole = student()
    expected = tune_(whole, network(), epoch, HELD_OUT, settings, steps=30, plan=plan)

    def breaking(number):
        for batch, each in enumerate(epoch(number)):
            if 5 * number + batch == at:
                raise StopError
            yield each

    broken = student()
    with pytest.raises(StopError):
        tune_(broken, network(), breaking, HELD_OUT, settings, steps=30, plan=plan, folder=tmp_path)
    again = student()
    found = tune_(again, network(), epoch, HELD_OUT, settings, steps=30, plan=plan, folder=tmp_path)
    same_state(again, whole)
    assert [row.held_out for row in found.rows] == [row.held_out for row in expected.rows]
    assert found.best == expected.best
    # Finished: the same call gives the same at once.
    third = student()
    assert tune_(third, network(), epoch, HELD_OUT, settings, steps=30, plan=plan, folder=tmp_path) == found
    same_state(third, whole)


def test_kill_9(tmp_path):
    settings = Tuning(learning_rate=0.01, evaluations=6, checkpoint_seconds=1e-9)
    whole = sparse()
    tune_(whole, network(), epoch, HELD_OUT, settings, steps=30)

    def slow(number):
        for each in epoch(number):
            time.sleep(0.05)
            yield each

    def job():
        tune_(sparse(), network(), slow, HELD_OUT, settings, steps=30, folder=tmp_path)

    process = multiprocessing.get_context("fork").Process(target=job)
    process.start()
    for _ in range(2000):
        if (tmp_path / CHECKPOINT).exists():
            break
        assert process.is_alive()
        time.sleep(0.01)
    time.sleep(0.2)
    process.kill()
    process.join()
    again = sparse()
    tune_(again, network(), epoch, HELD_OUT, settings, steps=30, folder=tmp_path)
    same_state(again, whole)


def test_seconds_of_earlier_starts_count(tmp_path):
    settings = Tuning(learning_rate=0.01, checkpoint_seconds=1e-9)

    def slow(number):
        for each in epoch(number):
            time.sleep(0.3)
            yield each
        raise StopError

    with pytest.raises(StopError):
        tune_(sparse(), network(), slow, HELD_OUT, settings, seconds=3.0, folder=tmp_path)
    started = time.monotonic()
    history = tune_(sparse(), network(), epoch, HELD_OUT, settings, seconds=3.0, folder=tmp_path)
    assert time.monotonic() - started < 2.5
    assert history.rows[-1].seconds > 1.2


def test_a_damaged_checkpoint_stops_the_run(tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(TrainingError, match="damaged"):
        tune_(sparse(), network(), epoch, HELD_OUT, QUICK, steps=2, folder=tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "budget"),
        ({"steps": 3, "model": network}, "no masks"),
        ({"steps": 3, "epochs": lambda number: []}, "no images"),
        ({"steps": 3, "held_out": []}, "held-out"),
        ({"steps": 3, "settings": Tuning(masks="learned")}, "plan"),
        ({"steps": 3, "settings": Tuning(features={"nothing": 1.0})}, "nothing"),
    ],
)
def test_what_cannot_be_is_said(changes, sentence):
    model = changes.pop("model", sparse)()
    epochs, held_out = changes.pop("epochs", epoch), changes.pop("held_out", HELD_OUT)
    before = digest_of(model)
    with pytest.raises(TrainingError, match=sentence):
        tune_(model, network(), epochs, held_out, changes.pop("settings", QUICK), **changes)
    assert digest_of(model) == before


@pytest.mark.parametrize(
    "wrong",
    [{"masks": "dynamic"}, {"norms": "none"}, {"optimizer": "lion"}, {"learning_rate": 0.0}, {"warmup": 1.0},
     {"evaluations": 0}],
)  # fmt: skip
def test_settings_are_checked(wrong):
    with pytest.raises(ValidationError):
        Tuning(**wrong)


def test_the_rate_rises_and_falls():
    settings = Tuning(learning_rate=2.0, warmup=0.2)
    assert [rate_at(settings, p) for p in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.0, 1.0, 2.0, 1.0, 0.0])
