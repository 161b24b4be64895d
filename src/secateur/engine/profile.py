"""How fast a compiled network is, layer by layer.

expected speedup = MACs with all weights / MACs with nonzero weights
achieved speedup = time of the layer with all weights / its time
efficiency       = achieved / expected
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from secateur.engine.facts import LayerFacts
from secateur.engine.plan import NativePart, Plan
from secateur.engine.report import HEAD, Report, layer_dict, make_report, notes, row_of
from secateur.engine.target import Target
from secateur.graph.table import text_table


@dataclass(frozen=True)
class LayerTime:
    """Seconds of one layer (median), its conversions between layouts included; None where there is no dense twin."""

    facts: LayerFacts
    seconds: float
    dense_seconds: float | None

    @property
    def gflops(self) -> float:
        """Billions of operations per second, counting nonzero weights only."""
        return 2e-9 * self.facts.work / self.seconds if self.seconds else 0.0

    @property
    def expected(self) -> float | None:
        """What the zeros promise; None where no weight is left."""
        return self.facts.macs / self.facts.work if self.facts.work else None

    @property
    def achieved(self) -> float | None:
        """What they give."""
        return self.dense_seconds / self.seconds if self.dense_seconds and self.seconds else None


@dataclass(frozen=True)
class Profile:
    """A report with times.

    others    operator -> seconds of all its nodes together; "ONNX Runtime" is what runs there
    total     seconds of all steps
    """

    report: Report
    layers: tuple[LayerTime, ...]
    others: Mapping[str, float]
    total: float
    dense_total: float | None

    @property
    def expected(self) -> float | None:
        """What the zeros of all layers promise together, by multiply-adds."""
        work = sum(row.facts.work for row in self.layers)
        return sum(row.facts.macs for row in self.layers) / work if work else None

    @property
    def achieved(self) -> float | None:
        """Time of all steps with all weights / time of all steps."""
        return self.dense_total / self.total if self.dense_total and self.total else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON can hold it."""
        rows = [
            layer_dict(row.facts)
            | {
                "ms": 1e3 * row.seconds,
                "gflops": row.gflops,
                "dense_ms": None if row.dense_seconds is None else 1e3 * row.dense_seconds,
                "expected_speedup": row.expected,
                "achieved_speedup": row.achieved,
            }
            for row in self.layers
        ]
        return self.report.to_dict() | {
            "layers": rows,
            "others_ms": {name: 1e3 * seconds for name, seconds in self.others.items()},
            "total_ms": 1e3 * self.total,
            "dense_total_ms": None if self.dense_total is None else 1e3 * self.dense_total,
            "expected_speedup": self.expected,
            "achieved_speedup": self.achieved,
        }

    def __str__(self) -> str:
        rows = [
            (*row_of(row.facts), *_figures(row.seconds, row.gflops, row.expected, row.achieved)) for row in self.layers
        ]
        rows += [
            (f"other: {name}", "", "", "", f"{1e3 * seconds:.3f}", "", "", "") for name, seconds in self.others.items()
        ]
        work = 2e-9 * sum(row.facts.work for row in self.layers)
        speed = work / self.total if self.total else 0.0
        rows.append(("whole network", "", "", "", *_figures(self.total, speed, self.expected, self.achieved)))
        head = (*HEAD, "ms", "GFLOP/s", "expected", "achieved")
        return "\n".join([text_table(head, rows, left=len(HEAD), total=True), *notes(self.report)])


_ELSEWHERE = "ONNX Runtime"


def make_profile(
    plan: Plan, dense: Plan | None, target: Target, threads: int, feeds: Mapping[str, np.ndarray], rounds: int
) -> Profile:
    """Times of a plan's layers, and of its dense twin's in turns with it."""
    turns = max(1, min(4, rounds))
    own: list[dict[str, float]] = []
    other: list[dict[str, float]] = []
    for _ in range(turns):
        own.append(_layer_seconds(plan, feeds, -(-rounds // turns)))
        if dense is not None:
            other.append(_layer_seconds(dense, feeds, -(-rounds // turns)))
    seconds, dense_seconds = _best(own), _best(other)
    layers = tuple(
        LayerTime(fact, seconds.get(fact.layer, 0.0), dense_seconds.get(fact.layer) if dense else None)
        for fact in plan.layers
    )
    named = {fact.layer for fact in plan.layers}
    others: dict[str, float] = {}
    for name, spent in seconds.items():
        if name not in named:
            kind = name if name == _ELSEWHERE else plan.operators.get(name, "input and output")
            others[kind] = others.get(kind, 0.0) + spent
    total = sum(seconds.values())
    return Profile(
        make_report(plan, target, threads), layers, others, total, sum(dense_seconds.values()) if dense else None
    )


def _layer_seconds(plan: Plan, feeds: Mapping[str, np.ndarray], rounds: int) -> dict[str, float]:
    values = dict(feeds)
    seconds: dict[str, float] = {}
    for part in plan.parts:
        inputs = {name: values[name] for name in part.inputs}
        values |= part.run(inputs)
        if isinstance(part, NativePart):
            spent = part.seconds(inputs, rounds)
            for step, value in zip(part.program.program.steps, spent, strict=True):
                seconds[step.layer] = seconds.get(step.layer, 0.0) + value
        else:
            readings: list[float] = []
            for _ in range(rounds):
                start = perf_counter()
                part.run(inputs)
                readings.append(perf_counter() - start)
            seconds[_ELSEWHERE] = seconds.get(_ELSEWHERE, 0.0) + median(readings)
    return seconds


def _best(readings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The least of the medians: a neighbour on the machine only ever adds time."""
    return {name: min(reading[name] for reading in readings) for name in (readings[0] if readings else ())}


def _figures(seconds: float, gflops: float, expected: float | None, achieved: float | None) -> tuple[str, ...]:
    ratios = ("-" if ratio is None else f"{ratio:.2f}x" for ratio in (expected, achieved))
    return f"{1e3 * seconds:.3f}", f"{gflops:.1f}" if gflops else "-", *ratios
