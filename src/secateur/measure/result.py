"""What a benchmark found: a row per network, runtime, batch and thread count, with a figure or a reason."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from secateur.errors import ArtifactError
from secateur.graph.table import text_table
from secateur.measure.accuracy import RuntimeAccuracy
from secateur.measure.clock import Timing
from secateur.measure.failure import Failure, RunError
from secateur.measure.machine import Machine
from secateur.measure.subjects import DENSE

_HEADERS = (
    "network", "runtime", "batch", "threads", "median ms", "MAD", "p90", "times faster", "first call", "memory MiB",
    "top-1 %", "note",
)  # fmt: skip


@dataclass(frozen=True)
class RowFailure:
    """Why a row, or a part of it, has no figure."""

    category: Failure
    message: str

    @classmethod
    def of(cls, error: RunError) -> "RowFailure":
        return cls(error.category, str(error))


@dataclass(frozen=True)
class Row:
    """One network in one runtime.

    uses_zeros     the runtime's own sentence
    peak_memory    bytes on top of the imported runtime, in a process of its own; None when not measured
    accuracy       on the same images as every other row; None when not measured
    failure        set when there is no timing, or when a part of the row could not be measured
    """

    subject: str
    runtime: str
    version: str
    uses_zeros: str
    batch: int
    threads: int
    timing: Timing | None = None
    peak_memory: int | None = None
    accuracy: RuntimeAccuracy | None = None
    failure: RowFailure | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "timing": self.timing.to_dict() if self.timing else None,
            "failure": {"category": self.failure.category.value, "message": self.failure.message}
            if self.failure
            else None,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Row":
        timing, accuracy, failure = value["timing"], value["accuracy"], value["failure"]
        row = cls(**{**value, "timing": None, "accuracy": None, "failure": None})
        return replace(
            row,
            timing=Timing.from_dict(timing) if timing else None,
            accuracy=RuntimeAccuracy(**accuracy) if accuracy else None,
            failure=RowFailure(Failure(failure["category"]), failure["message"]) if failure else None,
        )


@dataclass(frozen=True)
class BenchmarkResult:
    """All rows, and the machine they were measured on; input_shape is that of one image."""

    rows: tuple[Row, ...]
    machine: Machine
    input_shape: tuple[int, ...]

    def row(self, subject: str, runtime: str, batch: int, threads: int) -> Row | None:
        """The row of exactly these, if there is one."""
        wanted = (subject, runtime, batch, threads)
        found = (row for row in self.rows if (row.subject, row.runtime, row.batch, row.threads) == wanted)
        return next(found, None)

    def fastest_dense(self, batch: int, threads: int) -> Row | None:
        """The least time that a network takes without using zeros: what any gain is to be measured against.

        Of the dense network in any runtime where there is one; otherwise of any network in runtimes that ignore zeros.
        """
        here = [row for row in self.rows if (row.batch, row.threads) == (batch, threads) and row.timing]
        dense = [row for row in here if row.subject == DENSE]
        found = dense or [row for row in here if row.uses_zeros.lower().startswith("no")]
        return min(found, key=lambda row: row.timing.median_ms if row.timing else 0.0, default=None)

    def settings(self) -> tuple[tuple[int, int], ...]:
        """(batch, threads) of the rows, in order, each once."""
        return tuple(dict.fromkeys((row.batch, row.threads) for row in self.rows))

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": [row.to_dict() for row in self.rows],
            "machine": self.machine.to_dict(),
            "input_shape": list(self.input_shape),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "BenchmarkResult":
        """The result that `to_dict` described. raises ArtifactError when it is none."""
        try:
            return cls(
                rows=tuple(Row.from_dict(row) for row in value["rows"]),
                machine=Machine.from_dict(value["machine"]),
                input_shape=tuple(value["input_shape"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"this is not a benchmark result: {type(error).__name__} {error}.") from error

    def __str__(self) -> str:
        sizes = "×".join(str(size) for size in self.input_shape)
        base = {setting: self.fastest_dense(*setting) for setting in self.settings()}
        rows = [_cells(row, base[row.batch, row.threads]) for row in self.rows]
        lines = [text_table(_HEADERS, rows, left=2)]
        if any(base.values()):
            lines.append("times faster: than the fastest dense runtime at the same batch and threads")
        lines.append(f"one image is {sizes}; {self.machine.cpu}; candidates timed in interleaved rounds")
        lines += dict.fromkeys(
            f"{row.failure.category.value}: {row.failure.message}" for row in self.rows if row.failure
        )
        lines += dict.fromkeys(f"{row.runtime} {row.version}: uses zeros: {row.uses_zeros}" for row in self.rows)
        return "\n".join(lines)


def _cells(row: Row, base: Row | None) -> tuple[str, ...]:
    timing = row.timing
    times = (
        (
            f"{timing.median_ms:.3f}",
            f"{timing.mad_ms:.3f}",
            f"{timing.p90_ms:.3f}",
            f"{base.timing.median_ms / timing.median_ms:.2f}x" if base and base.timing else "-",
            f"{timing.first_call_ms:.1f}",
        )
        if timing
        else ("-", "-", "-", "-", "-")
    )
    return (
        row.subject,
        row.runtime,
        str(row.batch),
        str(row.threads),
        *times,
        f"{row.peak_memory / 2**20:.1f}" if row.peak_memory is not None else "-",
        f"{row.accuracy.top1:.2f}" if row.accuracy else "-",
        row.failure.category.value if row.failure else "",
    )
