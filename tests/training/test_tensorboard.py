"""The TensorBoard log holds the history's numbers; without the package there is one notice."""

import sys

import pytest

from secateur.training.history import Row
from secateur.training.tensorboard import SCALARS, tensorboard_log

ROWS = [
    Row(epoch, 0.1 / (epoch + 1), 2.0 - epoch, 50.0, 40.0 + epoch, 90.0, None, 0.25 * epoch, 1.0) for epoch in range(3)
]


def test_scalars_and_a_resumed_run(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with tensorboard_log(tmp_path, 0) as log:
        log(ROWS[0])
        log(Row(1, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0))  # killed before its checkpoint
    with tensorboard_log(tmp_path, 1) as log:
        log(ROWS[1])
        log(ROWS[2])
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) <= set(SCALARS)
    for name in ("loss", "learning_rate", "top1", "top5", "sparsity", "train_accuracy"):
        points = [(event.step, event.value) for event in events.Scalars(name)]
        assert points == [(row.epoch, pytest.approx(getattr(row, name), rel=1e-6)) for row in ROWS], name


def test_without_the_package_one_notice(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with tensorboard_log(tmp_path, 0) as log:
        log(ROWS[0])
        log(ROWS[1])
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err.count("tensorboard package is not installed") == 1
