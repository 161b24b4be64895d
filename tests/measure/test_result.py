"""What the figures of a benchmark are measured against."""

from secateur.measure import BenchmarkResult, Row, machine
from secateur.measure.clock import summarize


def row(subject: str, runtime: str, ms: float | None, zeros: str = "no: it ignores them.", batch: int = 1) -> Row:
    timing = None if ms is None else summarize([ms, ms, ms], ms)
    return Row(subject, runtime, "1", zeros, batch, 1, timing)


def result(*rows: Row) -> BenchmarkResult:
    return BenchmarkResult(rows, machine(), (3, 8, 8))


def fastest(*rows: Row) -> tuple[str, str] | None:
    found = result(*rows).fastest_dense(1, 1)
    return (found.subject, found.runtime) if found else None


def test_one_file_is_compared_with_the_fastest_runtime_that_ignores_zeros() -> None:
    rows = (row("net", "secateur", 1.0, "yes: it skips them."), row("net", "slow", 4.0), row("net", "fast", 3.0))
    assert fastest(*rows) == ("net", "fast")
    text = str(result(*rows))
    assert "3.00x" in text and "0.75x" in text and "1.00x" in text


def test_two_networks_are_compared_with_the_dense_one_in_any_runtime() -> None:
    rows = (
        row("dense", "secateur", 2.0, "yes: it skips them."), row("compressed", "secateur", 1.0, "yes."),
        row("dense", "other", 3.0), row("compressed", "other", 0.5),
    )  # fmt: skip
    assert fastest(*rows) == ("dense", "secateur")


def test_other_settings_and_rows_without_time_do_not_count() -> None:
    assert fastest(row("net", "other", 1.0, batch=2), row("net", "broken", None)) is None
    assert "times faster: than" not in str(result(row("net", "broken", None)))
