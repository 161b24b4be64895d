"""What the zeros promised and what they gave.

    expected, parameters   weights / nonzeros              (at sparsity s: 1 / (1 - s))
    expected, compute      MACs / MACs of nonzero weights
    achieved               best dense time over the runtimes / compressed time
    efficiency             100 * achieved / expected       ("percent of expected": 2.6 of 20 is 13.0 %)

All for the same batch, threads and machine. Source: ALGORITHMS A3, I1 (DLAS).
"""

from dataclasses import asdict, dataclass
from typing import Any

from secateur.errors import MeasureError
from secateur.graph import Census
from secateur.graph.table import text_table
from secateur.measure.clock import Ratio, ratio
from secateur.measure.failure import Failure
from secateur.measure.result import BenchmarkResult, Row

_HEADERS = (
    "runtime", "batch", "threads", "dense ms", "ms", "in this runtime", "best dense", "achieved",
    "of parameters %", "of compute %", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Expected:
    """What a perfect runtime would gain, in the two forms that are always given together."""

    parameters: float
    compute: float


@dataclass(frozen=True)
class Speedup:
    """One runtime, batch and thread count.

    dense_ms, compressed_ms   medians of the two networks in this runtime
    within                    dense / compressed in this runtime, from paired rounds
    best_dense                the runtime with the fastest dense network here, to which `achieved` refers
    achieved                  its dense median / this runtime's compressed median
    percent_of_parameters     100 * achieved / expected.parameters; percent_of_compute likewise
    failure                   why there is no figure, or that the runtime ignores zeros
    """

    runtime: str
    batch: int
    threads: int
    dense_ms: float | None = None
    compressed_ms: float | None = None
    within: Ratio | None = None
    best_dense: str | None = None
    achieved: float | None = None
    percent_of_parameters: float | None = None
    percent_of_compute: float | None = None
    failure: Failure | None = None
    ignores_zeros: bool = False


@dataclass(frozen=True)
class SpeedupTable:
    """Expected and achieved, runtime by runtime."""

    expected: Expected
    rows: tuple[Speedup, ...]

    def best(self, batch: int, threads: int) -> Speedup | None:
        """The runtime that runs the compressed network fastest."""
        found = [row for row in self.rows if (row.batch, row.threads) == (batch, threads)]
        timed = [(row.compressed_ms, index) for index, row in enumerate(found) if row.compressed_ms is not None]
        return found[min(timed)[1]] if timed else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "expected": asdict(self.expected),
            "rows": [{**asdict(row), "failure": row.failure.value if row.failure else None} for row in self.rows],
        }

    def __str__(self) -> str:
        return "\n".join(
            (
                text_table(_HEADERS, [_cells(row) for row in self.rows], left=1),
                f"expected: {self.expected.parameters:.2f}x by parameters, "
                f"{self.expected.compute:.2f}x by compute (base conv_linear); "
                "achieved: best dense time of any runtime / compressed time",
            )
        )


def expected_of_sparsity(sparsity: float) -> float:
    """Speedup that zeros of this fraction promise: 1 / (1 - s)."""
    if not 0.0 <= sparsity < 1.0:
        raise MeasureError(f"a sparsity of {sparsity} promises no speedup; it must be at least 0 and below 1.")
    return 1.0 / (1.0 - sparsity)


def expected_of(census: Census) -> Expected:
    """Both promises of a network, as it was counted."""
    return Expected(census.parameter_reduction, census.compute_reduction)


def efficiency(achieved: float, expected: float) -> float:
    """Percent of the expected speedup that was achieved."""
    if expected <= 0.0:
        raise MeasureError(f"an expected speedup of {expected} cannot be compared with.")
    return 100.0 * achieved / expected


def speedup_table(
    result: BenchmarkResult,
    expected: Expected,
    *,
    dense: str = "dense",
    compressed: str = "compressed",
    smaller: bool = False,
) -> SpeedupTable:
    """Achieved against expected for every runtime, batch and thread count of `result`.

    dense, compressed    names of the two networks
    smaller              the compressed one lost channels, so that runtimes which multiply zeros gain too
    """
    rows = []
    for batch, threads in result.settings():
        here = [row for row in result.rows if (row.batch, row.threads) == (batch, threads)]
        best = min((row for row in here if row.subject == dense and row.timing), key=_median, default=None)
        rows += [
            _speedup(row, result.row(dense, row.runtime, batch, threads), best, expected, smaller)
            for row in here
            if row.subject == compressed
        ]
    return SpeedupTable(expected, tuple(rows))


def _median(row: Row) -> float:
    assert row.timing is not None
    return row.timing.median_ms


def _speedup(row: Row, dense: Row | None, best: Row | None, expected: Expected, smaller: bool) -> Speedup:
    failure = row.failure.category if row.failure else None
    if row.timing is None:
        return Speedup(row.runtime, row.batch, row.threads, failure=failure)
    within = ratio(dense.timing, row.timing) if dense and dense.timing else None
    achieved = _median(best) / row.timing.median_ms if best else None
    ignores_zeros = row.uses_zeros.lower().startswith("no") and not smaller
    if failure is None and ignores_zeros:
        failure = Failure.IGNORES_ZEROS
    return Speedup(
        runtime=row.runtime,
        batch=row.batch,
        threads=row.threads,
        dense_ms=dense.timing.median_ms if dense and dense.timing else None,
        compressed_ms=row.timing.median_ms,
        within=within,
        best_dense=best.runtime if best else None,
        achieved=achieved,
        percent_of_parameters=None if achieved is None else efficiency(achieved, expected.parameters),
        percent_of_compute=None if achieved is None else efficiency(achieved, expected.compute),
        failure=failure,
        ignores_zeros=ignores_zeros,
    )


def _cells(row: Speedup) -> tuple[str, ...]:
    def figure(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        row.runtime,
        str(row.batch),
        str(row.threads),
        figure(row.dense_ms, ".3f"),
        figure(row.compressed_ms, ".3f"),
        str(row.within or "-"),
        row.best_dense or "-",
        "-" if row.achieved is None else f"{row.achieved:.2f}x",
        figure(row.percent_of_parameters, ".1f"),
        figure(row.percent_of_compute, ".1f"),
        row.failure.value if row.failure else "",
    )
