"""What was compiled, and how fast it is, layer by layer.

expected speedup = MACs with all weights / MACs with nonzero weights
achieved speedup = time of the layer with all weights / its time
efficiency       = achieved / expected
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from secateur.engine.facts import LayerFacts
from secateur.engine.plan import NativePart, Plan
from secateur.engine.target import Target
from secateur.graph.table import dims, text_table


@dataclass(frozen=True)
class MemoryReport:
    """Bytes held: weight streams and tables, tensors between steps, scratch of threads, kernels."""

    constants: int
    arena: int
    scratch: int
    code: int


@dataclass(frozen=True)
class Report:
    """A compiled network: one row per convolution and matrix product, and what runs elsewhere.

    others    operator -> how many of them run natively besides the layers
    refused   node -> operator and the reason why it runs in ONNX Runtime
    """

    isa: str
    threads: int
    batch: int
    layers: tuple[LayerFacts, ...]
    others: Mapping[str, int]
    refused: Mapping[str, tuple[str, str]]
    memory: MemoryReport

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON can hold it."""
        return {
            "isa": self.isa,
            "threads": self.threads,
            "batch": self.batch,
            "layers": [_layer_dict(fact) for fact in self.layers],
            "others": dict(self.others),
            "onnxruntime": {name: {"operator": op, "reason": why} for name, (op, why) in self.refused.items()},
            "memory": asdict(self.memory),
        }

    def __str__(self) -> str:
        rows = [_row(fact) for fact in self.layers]
        parts = [text_table((*_HEAD, "zeros %"), rows, left=len(_HEAD)), *_notes(self)]
        return "\n".join(parts)


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
    def expected(self) -> float:
        """What the zeros promise."""
        return self.facts.macs / self.facts.work if self.facts.work else float("inf")

    @property
    def achieved(self) -> float | None:
        """What they give."""
        return self.dense_seconds / self.seconds if self.dense_seconds and self.seconds else None


@dataclass(frozen=True)
class Profile:
    """A report with times.

    others    operator -> seconds of all its nodes together
    total     seconds of all steps
    """

    report: Report
    layers: tuple[LayerTime, ...]
    others: Mapping[str, float]
    total: float
    dense_total: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON can hold it."""
        rows = [
            _layer_dict(row.facts)
            | {
                "ms": 1e3 * row.seconds,
                "gflops": row.gflops,
                "dense_ms": None if row.dense_seconds is None else 1e3 * row.dense_seconds,
                "expected_speedup": row.expected if row.facts.work else None,
                "achieved_speedup": row.achieved,
            }
            for row in self.layers
        ]
        return self.report.to_dict() | {
            "layers": rows,
            "others_ms": {name: 1e3 * seconds for name, seconds in self.others.items()},
            "total_ms": 1e3 * self.total,
            "dense_total_ms": None if self.dense_total is None else 1e3 * self.dense_total,
        }

    def __str__(self) -> str:
        head = (*_HEAD, "zeros %", "ms", "GFLOP/s", "expected", "achieved")
        lines = [text_table(head, [(*_row(row.facts), *_times(row)) for row in self.layers], left=len(_HEAD))]
        lines += [f"{name}: {1e3 * seconds:.3f} ms" for name, seconds in self.others.items()]
        lines.append(f"all steps: {1e3 * self.total:.3f} ms" + _against(self.dense_total, self.total))
        return "\n".join([*lines, *_notes(self.report)])


_HEAD = ("layer", "operator", "weights", "pattern", "kernel", "computed as")


def make_report(plan: Plan, target: Target, threads: int) -> Report:
    """The report of a plan."""
    named = {fact.layer for fact in plan.layers}
    others: dict[str, int] = {}
    for name, operator in plan.operators.items():
        if name not in named:
            others[operator] = others.get(operator, 0) + 1
    uses = [part.program.memory for part in plan.parts if isinstance(part, NativePart)]
    memory = MemoryReport(
        *(sum(getattr(use, key) for use in uses) for key in ("constants", "arena", "scratch", "code"))
    )
    return Report(target.isa, threads, plan.batch, plan.layers, others, plan.refused, memory)


def make_profile(
    plan: Plan, dense: Plan | None, target: Target, threads: int, feeds: Mapping[str, np.ndarray], rounds: int
) -> Profile:
    """Times of a plan's layers, and of its dense twin's in turns with it."""
    turns = max(1, min(4, rounds))
    own, other = [], []
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
            kind = plan.operators.get(name, "input and output")
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
            spent = part.program.profile(inputs, rounds)
            for step, value in zip(part.program.program.steps, spent, strict=True):
                seconds[step.layer] = seconds.get(step.layer, 0.0) + value
    return seconds


def _best(readings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The least of the medians: a neighbour on the machine only ever adds time."""
    names = readings[0] if readings else {}
    return {name: min(reading[name] for reading in readings) for name in names}


def _layer_dict(fact: LayerFacts) -> dict[str, Any]:
    return {
        "layer": fact.layer,
        "operator": fact.operator,
        "shape": list(fact.shape),
        "output": list(fact.output),
        "density": fact.density,
        "pattern": fact.pattern,
        "kernel": fact.kernel,
        "choice": str(fact.choice) if fact.choice else None,
        "macs": fact.macs,
        "work": fact.work,
        "weight_bytes": fact.weight_bytes,
        "reason": fact.reason,
    }


def _row(fact: LayerFacts) -> tuple[str, ...]:
    zeros = f"{100 * (1 - fact.density):.1f}"
    choice = str(fact.choice) if fact.choice else ""
    return (fact.layer, fact.operator, dims(fact.shape), fact.pattern, fact.kernel, choice, zeros)


def _times(row: LayerTime) -> tuple[str, ...]:
    achieved = "" if row.achieved is None else f"{row.achieved:.2f}"
    expected = f"{row.expected:.2f}" if row.facts.work else "all"
    return f"{1e3 * row.seconds:.3f}", f"{row.gflops:.1f}", expected, achieved


def _against(dense: float | None, total: float) -> str:
    return "" if not dense else f"; with all weights {1e3 * dense:.3f} ms, {dense / total:.2f} times as long"


def _notes(report: Report) -> list[str]:
    memory = report.memory
    lines = [
        f"{report.isa}, {report.threads} threads, batch {report.batch}",
        f"memory: weights and tables {_mib(memory.constants)}, tensors {_mib(memory.arena)}, "
        f"scratch {_mib(memory.scratch)}, code {_mib(memory.code)}",
    ]
    if report.others:
        lines.append("also native: " + ", ".join(f"{count} {name}" for name, count in sorted(report.others.items())))
    lines += [f"{fact.layer} stays dense: {fact.reason}." for fact in report.layers if fact.reason]
    lines += [f"in ONNX Runtime: {name} ({op}): {why}" for name, (op, why) in report.refused.items()]
    return lines


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
