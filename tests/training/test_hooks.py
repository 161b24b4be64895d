"""Hooks: called at the right moments in the right order, remembered in checkpoints, always closed."""

import pytest
import torch

from secateur.errors import TrainingError
from secateur.training import fit
from secateur.training.hooks import Hook, Scene


def run(job, folder, *hooks, model=None, stop=None, **settings):
    model = model or job.network(dropout=0.0)
    if stop is not None:
        job.stop_before_step(model, stop)
    history = fit(
        model, job.images(), job.settings(**settings), folder=folder, preprocessing=job.PREPROCESSING, hooks=hooks
    )
    return model, history


class Diary(Hook):
    """Writes down what it is asked."""

    def __init__(self, pages, name="a"):
        self.pages, self.name = pages, name

    def begin(self, scene):
        assert isinstance(scene, Scene) and scene.steps == scene.config.epochs * scene.steps_per_epoch
        self.scene, self.calls = scene, torch.zeros((), dtype=torch.int64)
        self.note("begin")

    def note(self, *page):
        self.pages.append((self.name, *page))

    def before_epoch(self, epoch):
        self.note("before_epoch", epoch)

    def before_step(self, step):
        self.note("before_step", step)

    def extra_loss(self, model, step):
        assert model is self.scene.model
        self.note("extra_loss", step)

    def after_backward(self, step):
        assert all(p.grad is not None for p in self.scene.model.parameters())
        self.note("after_backward", step)

    def after_step(self, step):
        self.calls += 1
        self.note("after_step", step)

    def end(self):
        self.note("end", int(self.calls))

    def after_epoch(self, row):
        self.note("after_epoch", row.epoch)

    def close(self):
        self.note("close")

    def state(self):
        return {"calls": self.calls}

    def restore(self, state):
        self.calls = state["calls"] if state else self.calls
        self.note("restore", int(self.calls))

    def description(self):
        return {"name": self.name}


STEP = ("before_step", "extra_loss", "after_backward", "after_step")


def test_the_moments_and_their_order(job, tmp_path):
    pages = []
    run(job, tmp_path, Diary(pages), epochs=2, batch_size=48)
    expected = ["begin"]
    for epoch in range(2):
        expected += [("before_epoch", epoch), *((name, 2 * epoch + batch) for batch in range(2) for name in STEP)]
        expected += [("end", 4)] if epoch else []
        expected += [("after_epoch", epoch)]
    expected = [("a", page) if isinstance(page, str) else ("a", *page) for page in [*expected, "close"]]
    assert pages == expected


def test_several_hooks_are_asked_in_order(job, tmp_path):
    pages = []
    run(job, tmp_path, Diary(pages, "a"), Diary(pages, "b"), epochs=1, batch_size=48)
    opening = [page for page in pages if page[1] != "close"]
    assert [page[0] for page in opening] == ["a", "b"] * (len(opening) // 2)
    assert sorted(page[0] for page in pages if page[1] == "close") == ["a", "b"]


@pytest.mark.parametrize("stop", [5, 11, 12, 30])
def test_a_resumed_run_goes_on_with_the_hooks_memory(job, tmp_path, stop):
    pages = []
    with pytest.raises(job.StoppedError):
        run(job, tmp_path, Diary(pages), stop=stop)
    assert pages[-2:] == [("a", "before_step", stop), ("a", "close")]
    again = []
    run(job, tmp_path, Diary(again))
    # The epoch begins again only where nothing of it has been trained on.
    begins = [("a", "before_epoch", stop // 12)] if stop % 12 == 0 else []
    expected = [("a", "begin"), ("a", "restore", stop), *begins, ("a", "before_step", stop)]
    assert again[: len(expected)] == expected and ("a", "end", 36) in again


def test_a_finished_run_asks_for_nothing_more(job, tmp_path):
    run(job, tmp_path, Diary([]), epochs=1)
    pages = []
    run(job, tmp_path, Diary(pages), epochs=1)
    assert pages == [("a", "begin"), ("a", "restore", 12), ("a", "close")]


def test_another_hook_is_another_run(job, tmp_path):
    run(job, tmp_path, Diary([]), epochs=1)
    with pytest.raises(TrainingError, match=r"hooks\.0 Diary\.name was 'a' there and is 'b' now"):
        run(job, tmp_path, Diary([], "b"), epochs=1)
    with pytest.raises(TrainingError, match=r"hooks\.0 Diary was .* there and is None now"):
        run(job, tmp_path, epochs=1)


class Pull(Hook):
    """A penalty that has its minimum at weights of 1."""

    def extra_loss(self, model, step):
        return 0.5 * (model[0].weight - 1).square().sum()


def test_the_extra_loss_is_descended_and_reported(job, tmp_path):
    plain, before = run(job, tmp_path / "plain", epochs=1, batch_size=96, clip_gradient_norm=None, momentum=0.0)
    start = job.network()[0].weight
    pulled, after = run(job, tmp_path / "pulled", Pull(), epochs=1, batch_size=96, momentum=0.0)
    # One step at rate 0.05: the gradient of the penalty is w - 1.
    torch.testing.assert_close(pulled[0].weight - plain[0].weight, -0.05 * (start - 1), rtol=1e-4, atol=1e-6)
    assert after.last.loss == pytest.approx(before.last.loss + 0.5 * (start - 1).square().sum().item(), rel=1e-5)


class Freeze(Hook):
    """Takes the gradient of one layer away, then puts one weight where it wants it."""

    def begin(self, scene):
        self.layer = scene.model[0]

    def after_backward(self, step):
        self.layer.weight.grad.zero_()

    def after_step(self, step):
        self.layer.weight.data[0, 0, 0, 0] = 7.0


def test_gradients_and_weights_can_be_changed(job, tmp_path):
    start = job.network()[0].weight.detach().clone()
    model, _ = run(job, tmp_path, Freeze(), epochs=1, weight_decay=0.0)
    start[0, 0, 0, 0] = 7.0
    assert torch.equal(model[0].weight, start)
