"""What was compiled, layer by layer, as data and as a table."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

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

    others     operator -> how many of them run natively besides the layers
    refused    node -> operator and the reason why it runs in ONNX Runtime
    delegated  why the whole network runs in ONNX Runtime, "" where it does not
    floats     node -> why it computes with floats in a quantized network
    """

    isa: str
    threads: int
    batch: int
    layers: tuple[LayerFacts, ...]
    others: Mapping[str, int]
    refused: Mapping[str, tuple[str, str]]
    memory: MemoryReport
    delegated: str = ""
    floats: Mapping[str, str] = field(default_factory=dict[str, str])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON can hold it."""
        return {
            "isa": self.isa,
            "threads": self.threads,
            "batch": self.batch,
            "layers": [layer_dict(fact) for fact in self.layers],
            "others": dict(self.others),
            "onnxruntime": {name: {"operator": op, "reason": why} for name, (op, why) in self.refused.items()},
            "delegated": self.delegated or None,
            "floats": dict(self.floats),
            "memory": asdict(self.memory),
        }

    def kernels(self) -> str:
        """The kernel of every layer, by its whole name."""
        return text_table(("layer", "kernel"), [(fact.layer, fact.kernel) for fact in self.layers], left=2)

    def __str__(self) -> str:
        table = [text_table(HEAD, [row_of(fact) for fact in self.layers], left=len(HEAD))] if self.layers else []
        return "\n".join([*table, *notes(self)])


HEAD = ("layer", "weights", "zeros", "computed as")
# So that the tables of the usual networks fit into 120 columns.
_LONGEST_NAME = 26
_WIDTH = 118
_MOST_NAMES = 3


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
    return Report(
        target.isa, threads, plan.batch, plan.layers, others, plan.refused, memory, plan.delegated, plan.floats
    )


def layer_dict(fact: LayerFacts) -> dict[str, Any]:
    """The facts of a layer as plain data."""
    return {
        "layer": fact.layer,
        "operator": fact.operator,
        "shape": list(fact.shape),
        "output": list(fact.output),
        "density": fact.density,
        "pattern": fact.pattern,
        "kernel": fact.kernel,
        "choice": str(fact.choice) if fact.choice else None,
        "format": fact.choice.format if fact.choice else None,
        "primitive": fact.choice.primitive if fact.choice else None,
        "bits": fact.bits,
        "macs": fact.macs,
        "work": fact.work,
        "weight_bytes": fact.weight_bytes,
        "reason": fact.reason or None,
        "candidates_ms": {str(choice): 1e3 * seconds for choice, seconds in fact.candidates},
    }


def row_of(fact: LayerFacts) -> tuple[str, ...]:
    """The cells of a layer under HEAD."""
    choice = fact.choice
    computed = f"{choice.format} {choice.rows}x{choice.vectors} {choice.primitive}" if choice else fact.operator
    computed = {8: "int8 ", 16: "bf16 "}.get(fact.bits, "") + computed
    return _short(fact.layer), dims(fact.shape), fact.pattern.partition(",")[0], computed


def _short(name: str) -> str:
    """A name without its middle where it is too long: both ends tell layers apart."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = (_LONGEST_NAME - 1) // 2
    return f"{name[:half]}…{name[-(_LONGEST_NAME - 1 - half) :]}"


def notes(report: Report) -> list[str]:
    """What stands below the table: machine, memory, reasons."""
    memory = report.memory
    lines = [
        f"{report.isa}, {report.threads} thread{'s' * (report.threads != 1)}, batch {report.batch}; "
        f"memory: weights and tables {_mib(memory.constants)}, tensors {_mib(memory.arena)}, "
        f"scratch {_mib(memory.scratch)}, code {_mib(memory.code)}",
    ]
    if report.delegated:
        lines.append(f"The whole network runs in ONNX Runtime: {report.delegated}.")
    if report.others:
        lines.append("also native: " + ", ".join(f"{count} {name}" for name, count in sorted(report.others.items())))
    integers = sum(fact.bits == 8 for fact in report.layers)
    if integers:
        lines.append(f"{integers} of {len(report.layers)} layers compute with integers of 8 bits")
    halves = sum(fact.bits == 16 for fact in report.layers)
    if halves:
        lines.append(
            f"{halves} of {len(report.layers)} layers multiply numbers rounded to bf16 and sum them in float32; "
            "everything else is float32"
        )
    floats: dict[str, list[str]] = {}
    for name, reason in report.floats.items():
        floats.setdefault(reason, []).append(name)
    lines += [f"with floats: {len(names)} ({_listed(names)}): {reason}" for reason, names in floats.items()]
    stays: dict[str, list[str]] = {}
    for fact in report.layers:
        if fact.reason:
            stays.setdefault(fact.reason, []).append(fact.layer)
    lines += [f"dense although it has zeros: {_listed(names)}: {reason}" for reason, names in stays.items()]
    elsewhere: dict[tuple[str, str], list[str]] = {}
    for name, refused in report.refused.items():
        elsewhere.setdefault(refused, []).append(name)
    lines += [f"in ONNX Runtime: {len(names)} {op} ({_listed(names)}): {why}" for (op, why), names in elsewhere.items()]
    return [textwrap.fill(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False) for line in lines]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
