"""From the result of a benchmark to one row per runtime, batch and thread count."""

from dataclasses import replace

from secateur.errors import ArtifactError, MeasureError
from secateur.graph import Census
from secateur.measure import BenchmarkResult, Expected, Row, Speedup, Timing, expected_of, speedup_table
from secateur.report.content import Latency, RuntimeAccuracies
from secateur.report.fields import Fields

_SUBJECTS = ("dense", "compressed")


def read_benchmark(stage: Fields | None) -> BenchmarkResult | None:
    """The benchmark that a stage recorded. raises ArtifactError when it is damaged."""
    if stage is None or "benchmark" not in stage:
        return None
    for row in stage.fields("benchmark").rows("rows"):
        if "timing" in row:
            _check_timing(row.fields("timing"))
    try:
        return BenchmarkResult.from_dict(stage.fields("benchmark").value)
    except ArtifactError as error:
        stage.fail(f"'benchmark': {error}")


def _check_timing(timing: Fields) -> None:
    if min(timing.number("median_ms"), timing.number("p90_ms"), timing.number("min_ms")) <= 0:
        timing.fail("an inference that took no time")


def latencies(result: BenchmarkResult | None, compressed: Census | None, smaller: bool = False) -> tuple[Latency, ...]:
    """Dense and compressed side by side; without a census there is no expectation.

    smaller   the compressed network lost channels: no runtime can ignore that
    raises    ArtifactError  when the two were not timed in the same rounds
    """
    if result is None:
        return ()
    expected = expected_of(compressed) if compressed is not None and compressed.nonzeros else None
    try:
        table = speedup_table(result, expected or Expected(1.0, 1.0), smaller=smaller)
    except MeasureError as error:
        raise ArtifactError(f"the benchmark of this run is damaged: {error}") from error
    return tuple(_latency(result, row, expected, smaller) for row in table.rows)


def runtime_accuracies(result: BenchmarkResult | None) -> tuple[RuntimeAccuracies, ...]:
    """Accuracy of both networks in every runtime in which it was measured, whatever batch and threads."""
    rows = result.rows if result else ()
    measured = {(row.runtime, row.subject): row.accuracy for row in reversed(rows) if row.accuracy}
    names = dict.fromkeys(row.runtime for row in rows)
    found = [
        RuntimeAccuracies(name, measured.get((name, "dense")), measured.get((name, "compressed"))) for name in names
    ]
    return tuple(row for row in found if row.dense or row.compressed)


def _latency(result: BenchmarkResult, row: Speedup, expected: Expected | None, smaller: bool) -> Latency:
    found = {name: result.row(name, row.runtime, row.batch, row.threads) for name in _SUBJECTS}
    measured = {name: value for name, value in found.items() if value is not None}
    one = next(iter(measured.values()))
    latency = Latency(
        runtime=row.runtime,
        version=one.version,
        uses_zeros=one.uses_zeros,
        ignores_zeros=one.uses_zeros.lower().startswith("no") and not smaller,
        batch=row.batch,
        threads=row.threads,
        dense=_timing(found["dense"]),
        compressed=_timing(found["compressed"]),
        within=row.within,
        best_dense=row.best_dense,
        achieved=row.achieved,
        failures={
            name: f"{value.failure.category.value}: {value.failure.message}"
            for name, value in measured.items()
            if value.failure
        },
        memory={name: value.peak_memory for name, value in measured.items() if value.peak_memory is not None},
    )
    if expected is None or row.percent_of_parameters is None or row.percent_of_compute is None:
        return latency
    return replace(
        latency,
        expected_parameters=expected.parameters,
        expected_macs=expected.compute,
        efficiency_parameters=row.percent_of_parameters / 100,
        efficiency_macs=row.percent_of_compute / 100,
    )


def _timing(row: Row | None) -> Timing | None:
    """Without its samples: those stay in the stage's own result."""
    return replace(row.timing, samples=()) if row is not None and row.timing is not None else None
