"""Time boxes: what was spent and granted is remembered over all starts."""

import time

import pytest

from secateur.errors import ArtifactError
from secateur.pipeline.posttraining.time_box import FILE, TimeBox


def test_no_budget_never_ends(tmp_path):
    box = TimeBox(None, tmp_path)
    assert box.left == float("inf") and box.grant("step") is None
    assert not (tmp_path / FILE).exists()


def test_time_of_earlier_starts_counts(tmp_path):
    box = TimeBox(10.0, tmp_path)
    time.sleep(0.05)
    box.note()
    again = TimeBox(10.0, tmp_path)
    assert again.spent >= 0.05 and again.left <= 9.95
    assert TimeBox(0.01, tmp_path).left == 0.0


def test_a_step_is_granted_the_same_seconds_at_every_start(tmp_path):
    first = TimeBox(10.0, tmp_path)
    granted = first.grant("tuning", 0.5, reserve=2.0)
    assert granted == pytest.approx(4.0, abs=0.2)
    time.sleep(0.05)
    again = TimeBox(10.0, tmp_path)
    assert again.grant("tuning", 0.5, reserve=2.0) == granted
    assert again.grant("other") < 10.0
    # With another budget it is another run.
    assert TimeBox(20.0, tmp_path).grant("tuning", 0.5, reserve=2.0) > 8.0
    assert TimeBox(1.0, tmp_path).grant("late", reserve=5.0) == 0.0


@pytest.mark.parametrize("text", ["[]", '{"seconds": -1, "grants": {}, "budget": 1}', '{"seconds": 1}', "no json"])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ArtifactError, match=FILE):
        TimeBox(10.0, tmp_path)
