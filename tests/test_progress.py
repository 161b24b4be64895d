"""Progress: one bar at a time."""

import pytest

from secateur import progress
from secateur.progress import track


def test_work_within_work_is_not_shown(capsys):
    with track(2, "outer") as outer:
        for _ in range(2):
            with track(3, "inner") as inner:
                inner.advance(3, loss=1.0)
            outer.advance()
    shown = capsys.readouterr().err
    assert "outer: 2/2" in shown and "inner" not in shown


def test_after_an_error_the_next_work_is_shown(capsys):
    with pytest.raises(ValueError, match="broken"), track(2, "first"):
        raise ValueError("broken")
    with track(1, "second") as bar:
        bar.advance()
    assert "second: 1/1" in capsys.readouterr().err


def test_slow_steps_tell_the_end_once(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_LINE_SECONDS", 0.0)
    with track(2, "slow") as bar:
        bar.advance()
        bar.advance()
    shown = capsys.readouterr().err
    assert shown.count("slow: 1/2") == 1 and shown.count("slow: 2/2") == 1
