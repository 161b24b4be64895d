"""Shares of a budget: numbers depend on the clock only where the time is short."""

import pytest

from secateur.training import tuning_state
from secateur.training.tuning_state import Budget


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(tuning_state.time, "monotonic", lambda: now[0])
    return now


def test_steps_alone_and_time_alone(clock):
    assert [Budget(4, None).share(step) for step in (0, 1, 4, 9)] == [0.0, 0.25, 1.0, 1.0]
    timed = Budget(None, 10.0)
    clock[0] += 4.0
    assert timed.share(7) == pytest.approx(0.4)
    timed.reserve = 2.0
    assert timed.share(7) == pytest.approx(0.5)


def test_time_that_is_not_short_changes_nothing(clock):
    both = Budget(40, 600.0)
    clock[0] += 0.01
    assert both.share(0) == 0.0
    clock[0] += 14.0
    assert both.share(0) == 0.0 and both.share(1) == 1 / 40


def test_the_larger_share_counts_where_time_is_short(clock):
    both = Budget(40, 600.0)
    clock[0] += 60.0
    assert both.share(1) == pytest.approx(0.1)
    clock[0] += 600.0
    assert both.share(1) == 1.0
