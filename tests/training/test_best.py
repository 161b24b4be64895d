"""Which epoch is the result: the ranking, which epochs count, and that a killed run remembers."""

import pytest
import torch

from secateur.sparsity import AgpEpochs, Sparsifier, plan_sparsity
from secateur.training import Row, evaluate, fit
from secateur.training.best import KeepBest, rank
from secateur.training.hooks import Hook


def row(epoch, top1, top5, sparsity=0.5):
    return Row(epoch, 0.1, 1.0, 50.0, top1, top5, 1.0, sparsity, 1.0)


ROWS = [row(0, 90, 99, 0.1), row(1, 70, 99, 0.5), row(2, 80, 95, 0.5), row(3, 80, 97, 0.5), row(4, 80, 97, 0.5)]


@pytest.mark.parametrize(("keep", "best"), [("best_top1", 0), ("best_top5", 0), ("sparsest", 4)])
def test_the_order_of_all_epochs(keep, best):
    """Equal ones: the later. Fewest nonzeros, then top-1, then top-5, then the epoch, as Distiller sorts."""
    assert max(ROWS, key=lambda r: rank(r, keep)).epoch == best
    assert max(ROWS[1:], key=lambda r: rank(r, keep)).epoch == {"best_top5": 1}.get(keep, 4)
    assert max(ROWS[2:4], key=lambda r: rank(r, keep)).epoch == 3


class Script(Hook):
    """Puts the number of the epoch into the model, and an accuracy into its row."""

    def __init__(self, top1, settled=(True,) * 9):
        self.top1, self.at_end = top1, settled

    def begin(self, scene):
        self.model, self.epoch = scene.model, 0

    def before_evaluation(self, epoch):
        self.model[0].bias.data.fill_(float(epoch))

    def settled(self, row):
        return self.at_end[row.epoch]


@pytest.fixture
def scripted(job, monkeypatch, tmp_path):
    """Trains with accuracies out of a list; returns the epoch whose weights are the result."""
    from secateur.training import loop

    def run(top1, keep, settled=(True,) * 9, folder="run", stop=None):
        script = Script(top1, settled)
        honest = loop._finish_epoch

        def finish(run, place, steps, layout):
            found = honest(run, place, steps, layout)
            return Row(**{**vars(found), "top1": float(top1[place.epoch]), "top5": 99.0})

        model = job.network(dropout=0.0)
        if stop is not None:
            job.stop_before_step(model, stop)
        with monkeypatch.context() as patch:
            patch.setattr(loop, "_finish_epoch", finish)
            history = fit(
                model, job.images(train=16, test=8), job.settings(epochs=len(top1), keep=keep),
                folder=tmp_path / folder, preprocessing=job.PREPROCESSING, hooks=[script],
            )  # fmt: skip
        assert [r.top1 for r in history.rows] == list(top1)
        return int(model[0].bias[0])

    return run


@pytest.mark.parametrize(
    ("top1", "keep", "settled", "result"),
    [
        ((50, 80, 70, 60), "last", (True,) * 4, 3),
        ((50, 80, 70, 60), "best_top1", (True,) * 4, 1),
        ((50, 80, 80, 60), "best_top1", (True,) * 4, 2),
        ((50, 80, 70, 60), "best_top1", (False, False, True, True), 2),
        ((50, 80, 70, 60), "best_top1", (False,) * 4, 3),
        ((50, 80, 70, 90), "best_top1", (True,) * 4, 3),
        ((50, 80, 70, 60), "sparsest", (False,) * 4, 1),
    ],
)
def test_the_result_of_a_training(scripted, top1, keep, settled, result):
    assert scripted(top1, keep, settled) == result


@pytest.mark.parametrize("stop", [3, 4, 7])
def test_a_run_that_is_broken_off_remembers_its_best_epoch(job, scripted, stop):
    with pytest.raises(job.StoppedError):
        scripted((50, 80, 70, 60), "best_top1", folder="broken", stop=stop)
    assert scripted((50, 80, 70, 60), "best_top1", folder="broken") == 1
    assert scripted((50, 80, 70, 60), "best_top1", folder="broken") == 1, "and again when it is finished"


def test_with_masks_that_rise_only_epochs_at_the_final_sparsity_count(job, tmp_path):
    model = job.network(dropout=0.0)
    plan = plan_sparsity(model, 0.5, "unstructured", base="selected")
    sparsifier = Sparsifier(model, plan, AgpEpochs(0, 2, 1, 0.1, 0.5))
    history = fit(
        model, job.images(), job.settings(epochs=4, keep="best_top1", average_weights=0.5), folder=tmp_path,
        preprocessing=job.PREPROCESSING, sparsifier=sparsifier, evaluate_each_epoch=False,
    )  # fmt: skip
    best = max(history.rows[1:], key=lambda r: rank(r, "best_top1"))
    assert evaluate(model, job.images(), job.PREPROCESSING).top1 == best.top1
    assert history.rows[0].sparsity < best.sparsity == history.last.sparsity


def test_what_it_keeps_is_a_copy():
    hook, model = KeepBest("best_top1"), torch.nn.Linear(1, 1)
    hook._scene = type("Scene", (), {"model": model, "config": type("Config", (), {"epochs": 3})})
    model.weight.data.fill_(1.0)
    hook.after_epoch(row(0, 90, 99))
    model.weight.data.fill_(2.0)
    hook.after_epoch(row(1, 80, 99))
    hook.after_epoch(row(2, 70, 99))
    assert model.weight.item() == 1.0
