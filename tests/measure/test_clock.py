"""Times and their statistics against closed forms, and the interval against what it claims."""

import gc
import time
from collections.abc import Callable
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import MeasureError
from secateur.measure.clock import Ratio, Timing, interval_rank, ratio, same, summarize, time_interleaved

FEED = np.zeros((1, 1), np.float32)


class _Clock:
    """Stands for the time module: candidates take exactly as long as they say, whatever else the machine does."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def monotonic(self) -> float:
        return self.now_ns / 1e9

    def taking(self, *milliseconds: float) -> Callable[[np.ndarray], None]:
        """A candidate whose calls take these times; the last one for all further calls."""
        times = list(milliseconds)

        def run(_: np.ndarray) -> None:
            self.now_ns += round(1e6 * (times.pop(0) if len(times) > 1 else times[0]))

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    fake = _Clock()
    monkeypatch.setattr("secateur.measure.clock.time", fake)
    return fake


def test_summary_by_hand() -> None:
    timing = summarize([1.0, 2.0, 3.0, 4.0, 100.0], first_call_ms=7.0)
    assert (timing.median_ms, timing.mad_ms, timing.min_ms, timing.runs) == (3.0, 1.0, 1.0, 5)
    assert timing.p90_ms == pytest.approx(4 + 0.6 * 96)
    assert timing.first_call_ms == 7.0
    assert Timing.from_dict(timing.to_dict()) == timing


def test_every_candidate_runs_once_a_round_and_the_order_changes() -> None:
    calls: list[str] = []
    candidates = {name: (lambda _, name=name: calls.append(name)) for name in "abc"}
    timings = time_interleaved(candidates, FEED, repeats=40, warmup=0)
    assert list(timings) == ["a", "b", "c"]
    assert all(timing.runs == len(timing.samples) == 40 for timing in timings.values())
    rounds = [tuple(calls[i : i + 3]) for i in range(3, len(calls), 3)]  # the first three are first calls
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len(set(rounds)) == 6, "all six orders should appear in forty rounds"


def test_real_time_passes() -> None:
    timing = time_interleaved({"sleep": lambda _: time.sleep(0.002)}, FEED, repeats=3, warmup=0)["sleep"]
    assert timing.min_ms >= 2.0


def test_a_candidate_that_is_slower_is_found_slower(clock: _Clock) -> None:
    candidates = {"fast": clock.taking(1.0), "slow": clock.taking(2.0)}
    timings = time_interleaved(candidates, FEED, repeats=15, warmup=2)
    found = ratio(timings["slow"], timings["fast"])
    assert (found.low, found.median, found.high) == (2.0, 2.0, 2.0)
    assert not found.no_difference
    assert same(timings["fast"], timings["fast"])


def test_first_call_is_kept_apart(clock: _Clock) -> None:
    timing = time_interleaved({"run": clock.taking(20.0, 3.0, 1.0)}, FEED, repeats=5, warmup=1)["run"]
    assert (timing.first_call_ms, timing.samples) == (20.0, (1.0,) * 5)


def test_the_time_limit_ends_the_rounds_but_leaves_three(clock: _Clock) -> None:
    def runs(max_seconds: float) -> int:
        found = time_interleaved({"run": clock.taking(10.0)}, FEED, repeats=1000, warmup=1000, max_seconds=max_seconds)
        return found["run"].runs

    assert runs(0.001) == 3
    # One first call and ten rounds of warm-up, stable after two windows; rounds go on until a second is over.
    assert runs(1.0) == 90


def test_warm_up_goes_on_while_a_candidate_gets_faster(clock: _Clock) -> None:
    faster = [100.0 * 0.9**call for call in range(31)]
    timing = time_interleaved({"run": clock.taking(*faster, 1.0)}, FEED, repeats=3, warmup=500, max_seconds=1e6)
    assert timing["run"].samples == (1.0, 1.0, 1.0)


def test_the_garbage_collector_is_off_while_timing_and_on_again_after_a_failure() -> None:
    seen = []
    time_interleaved({"run": lambda _: seen.append(gc.isenabled())}, FEED, repeats=2, warmup=1)
    assert not any(seen)
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        time_interleaved({"run": lambda _: 1 / 0}, FEED, repeats=2, warmup=1)
    assert gc.isenabled()


def test_ratio_is_taken_round_by_round() -> None:
    """A machine that becomes ten times slower half way changes both alike; paired ratios do not see it."""
    drift = np.repeat([1.0, 10.0], 30)
    noise = np.linspace(0.99, 1.01, 60)
    a, b = summarize(list(2.0 * drift * noise), 0), summarize(list(drift), 0)
    found = ratio(a, b)
    assert found.median == pytest.approx(2.0, rel=1e-3)
    assert 1.97 < found.low <= found.median <= found.high < 2.03


def test_unpaired_timings_cannot_be_compared() -> None:
    with pytest.raises(MeasureError, match="same rounds"):
        ratio(summarize([1.0, 2.0], 0), summarize([1.0], 0))


def test_no_difference_needs_an_interval_around_one_or_a_ratio_below_the_resolution() -> None:
    assert Ratio(1.2, 0.9, 1.5).no_difference
    assert Ratio(1.04, 1.03, 1.045).no_difference
    assert not Ratio(1.2, 1.1, 1.3).no_difference
    assert not Ratio(0.8, 0.7, 0.9).no_difference


@given(st.integers(6, 400))
def test_the_interval_covers_the_median_at_95_percent_and_is_the_narrowest_that_does(n: int) -> None:
    rank = interval_rank(n)

    def missed(r: int) -> float:
        return 2 * sum(comb(n, i) for i in range(r + 1)) / 2**n

    assert missed(rank) <= 0.05 < missed(rank + 1)


def test_the_published_rank_of_100_samples() -> None:
    """40th and 61st of 100 ordered samples enclose the median with 96.5 % (Conover, table of the sign test)."""
    assert interval_rank(100) == 39
    assert interval_rank(5) == 0


def test_nothing_to_time_is_an_error() -> None:
    with pytest.raises(MeasureError):
        time_interleaved({}, FEED)
