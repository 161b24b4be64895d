"""From the result of a benchmark to one row per runtime, batch and thread count."""

from secateur.report.content import Latency, RuntimeAccuracy, Timing
from secateur.report.fields import Fields


def collect_latencies(stage: Fields | None) -> tuple[Latency, ...]:
    """Dense and compressed side by side, in the order of the benchmark's speedup rows."""
    if stage is None or "benchmark" not in stage:
        return ()
    timings = {_setting(row): row for row in stage.fields("benchmark").rows("timings")}
    return tuple(_latency(row, timings) for row in stage.rows("speedups"))


def collect_runtime_accuracy(stage: Fields | None) -> tuple[RuntimeAccuracy, ...]:
    """Accuracy of both networks in every runtime."""
    if stage is None or "benchmark" not in stage:
        return ()
    return tuple(
        RuntimeAccuracy(
            row.text("runtime"),
            row.text("subject"),
            row.number("top1"),
            row.optional_number("top5"),
            row.integer("images"),
        )
        for row in stage.fields("benchmark").rows("accuracies")
    )


def _setting(row: Fields) -> tuple[str, str, int, int]:
    return row.text("runtime"), row.text("subject"), row.integer("batch"), row.integer("threads")


def _latency(row: Fields, timings: dict[tuple[str, str, int, int], Fields]) -> Latency:
    runtime, batch, threads = row.text("runtime"), row.integer("batch"), row.integer("threads")
    found = {name: timings.get((runtime, name, batch, threads)) for name in ("dense", "compressed")}
    version = next((timing.text("version") for timing in found.values() if timing), "")
    return Latency(
        runtime=runtime,
        title=runtime,
        version=version,
        ignores_zeros="ignores" in row.text("uses_zeros"),
        uses_zeros=row.text("uses_zeros"),
        batch=batch,
        threads=threads,
        dense=_timing(found["dense"]),
        compressed=_timing(found["compressed"]),
        expected_parameters=row.optional_number("expected_parameters"),
        expected_macs=row.optional_number("expected_macs"),
        note=row.optional_text("note") or "",
    )


def _timing(row: Fields | None) -> Timing | None:
    if row is None:
        return None
    return Timing(
        row.number("median_ms"), row.number("p90_ms"), row.number("spread_ms"), row.integer("runs")
    )
