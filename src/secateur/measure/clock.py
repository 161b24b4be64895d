"""Times that may be compared: every candidate runs once in every round, in an order that changes each round.

A machine gets faster and slower by itself: clock rates, other programs, caches. Candidates timed one after
the other differ by that as much as by themselves. In interleaved rounds each candidate sees the same machine,
and the ratio of two candidates is taken round by round, where what they share cancels.

    median, p90, MAD = median(|t - median|)      over rounds
    ratio(a, b) = median over rounds of a_i / b_i, with the 95 % interval of a median (order statistics, no
    model) no difference: the interval contains 1, or the ratio is within RESOLUTION of 1

Source: ALGORITHMS I5; interval of a median: binomial(n, 1/2), e.g. Conover 1999, section 3.2.
"""

import contextlib
import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

import numpy as np

from secateur.errors import MeasureError
from secateur.measure.runtime import Images

# Two sessions of one and the same file, placed differently in memory, were seen to differ by 3.6 % with a
# tight interval (OpenVINO, ResNet-18); what is smaller than this says nothing about the networks.
RESOLUTION = 0.05
CONFIDENCE = 0.95

_MIN_ROUNDS = 3
_STABLE_WINDOW = 5
_STABLE_GAIN = 0.02
# Warm-up may not eat the time in which figures are taken.
_WARMUP_SHARE = 0.25


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one candidate; `samples` holds one time per round, so that candidates can be paired."""

    median_ms: float
    p90_ms: float
    mad_ms: float
    min_ms: float
    runs: int
    first_call_ms: float
    samples: tuple[float, ...] = ()

    def __str__(self) -> str:
        return f"{self.median_ms:.3f} ms ± {self.mad_ms:.3f} (p90 {self.p90_ms:.3f}, {self.runs} runs)"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "samples": list(self.samples)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Timing":
        return cls(**{**value, "samples": tuple(value.get("samples", ()))})


@dataclass(frozen=True)
class Ratio:
    """Median of paired ratios and its 95 % interval."""

    median: float
    low: float
    high: float

    @property
    def no_difference(self) -> bool:
        return self.low <= 1.0 <= self.high or abs(self.median - 1.0) <= RESOLUTION

    def __str__(self) -> str:
        text = f"{self.median:.3f}x ({self.low:.3f} to {self.high:.3f})"
        return f"{text}, no difference" if self.no_difference else text


def time_interleaved(
    candidates: Mapping[str, Callable[[Images], object]],
    feed: Images,
    *,
    repeats: int = 100,
    warmup: int = 20,
    max_seconds: float = 30.0,
    on_round: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Times of all candidates on the same input, by label.

    repeats      timed rounds; fewer when `max_seconds` are over (at least 3)
    warmup       rounds that are not counted; they end early once no candidate gets faster any more
    on_round     called after every timed round, for a progress bar
    raises       whatever a candidate raises
    """
    if repeats < 1 or not candidates:
        raise MeasureError("a timing needs at least one candidate and one repeat.")
    labels = list(candidates)
    samples: dict[str, list[float]] = {label: [] for label in labels}
    order = random.Random(0)
    with _no_garbage_collection():
        started = time.monotonic()
        first = {label: _milliseconds(candidates[label], feed) for label in labels}
        _warm_up(candidates, feed, warmup, started + _WARMUP_SHARE * max_seconds, order)
        for done in range(repeats):
            if done >= _MIN_ROUNDS and time.monotonic() - started > max_seconds:
                break
            order.shuffle(labels)
            for label in labels:
                samples[label].append(_milliseconds(candidates[label], feed))
            on_round()
    return {label: summarize(samples[label], first[label]) for label in candidates}


def _milliseconds(run: Callable[[Images], object], feed: Images) -> float:
    start = time.monotonic_ns()
    run(feed)
    return (time.monotonic_ns() - start) / 1e6


def _warm_up(
    candidates: Mapping[str, Callable[[Images], object]],
    feed: Images,
    rounds: int,
    deadline: float,
    order: random.Random,
) -> None:
    labels = list(candidates)
    history: dict[str, list[float]] = {label: [] for label in labels}
    for _ in range(rounds):
        order.shuffle(labels)
        for label in labels:
            history[label].append(_milliseconds(candidates[label], feed))
        if time.monotonic() > deadline or all(_is_stable(times) for times in history.values()):
            return


def _is_stable(times: list[float]) -> bool:
    """The last window is not faster than the one before it."""
    if len(times) < 2 * _STABLE_WINDOW:
        return False
    before = np.median(times[-2 * _STABLE_WINDOW : -_STABLE_WINDOW])
    return bool(np.median(times[-_STABLE_WINDOW:]) >= (1.0 - _STABLE_GAIN) * before)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def summarize(samples: list[float], first_call_ms: float) -> Timing:
    """The figures of one candidate's samples, in milliseconds."""
    times = np.asarray(samples, dtype=np.float64)
    median = float(np.median(times))
    return Timing(
        median_ms=median,
        p90_ms=float(np.percentile(times, 90)),
        mad_ms=float(np.median(np.abs(times - median))),
        min_ms=float(times.min()),
        runs=len(samples),
        first_call_ms=first_call_ms,
        samples=tuple(round(sample, 6) for sample in samples),
    )


def ratio(a: Timing, b: Timing) -> Ratio:
    """How many times as long `a` takes as `b`, from rounds that both ran in.

    raises    MeasureError  when the two were not timed in the same rounds
    """
    if not a.samples or len(a.samples) != len(b.samples):
        raise MeasureError("two timings can be compared only when they were taken in the same rounds.")
    ratios = np.sort(np.asarray(a.samples) / np.asarray(b.samples))
    rank = interval_rank(len(ratios))
    return Ratio(float(np.median(ratios)), float(ratios[rank]), float(ratios[-1 - rank]))


def same(a: Timing, b: Timing) -> bool:
    """Is the difference of `a` and `b` inside the noise."""
    return ratio(a, b).no_difference


def interval_rank(n: int) -> int:
    """The largest r such that the r-th smallest and the r-th largest (from 0) of n enclose the median.

    They do so with 95 % confidence: P(median below the r-th smallest) = sum_{i <= r} C(n, i) / 2^n. Five
    samples and fewer reach no 95 %; their smallest and largest are taken, and the interval is then as wide as
    it can be.
    """
    tail, rank = 0, -1
    allowed = (1.0 - CONFIDENCE) / 2.0
    while 2 * (rank + 1) < n:
        tail += comb(n, rank + 1)
        if tail / 2**n > allowed:
            break
        rank += 1
    return max(rank, 0)
