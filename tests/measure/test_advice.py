"""The four cases of the advice, by their numbers."""

from secateur.measure.advice import advice
from secateur.measure.clock import Ratio
from secateur.measure.speedup import Expected, Speedup, SpeedupTable


def _row(runtime: str, median: float | None, compressed_ms: float, ignores: bool = False) -> Speedup:
    within = None if median is None else Ratio(median, median * 0.98, median * 1.02)
    return Speedup(runtime, 1, 2, 10.0, compressed_ms, within, "best", 10.0 / compressed_ms, 50.0, 50.0, None, ignores)


def _advice(*rows: Speedup) -> str:
    return advice(SpeedupTable(Expected(5.0, 4.0), rows), 1, 2)


def test_case_1_the_fastest_of_the_runtimes_that_gain() -> None:
    text = _advice(_row("a", 2.0, 6.0), _row("b", 1.5, 4.0), _row("c", 1.0, 1.0))
    assert text.startswith("Use b (batch 1, 2 threads): the compressed network is 1.50x as fast there, 2.50x")
    assert "by compute 4.00x" in text


def test_case_2_runtimes_that_ignore_zeros_get_no_credit_for_a_difference() -> None:
    text = _advice(_row("a", 1.3, 6.0, ignores=True), _row("b", 1.0, 4.0, ignores=True))
    assert text.startswith("Zeros buy no time in a, b")
    assert "runtime secateur" in text


def test_case_3_a_runtime_that_uses_zeros_and_gains_nothing() -> None:
    assert _advice(_row("a", 0.7, 9.0)).startswith("Run the dense network")
    assert _advice(_row("a", 1.01, 9.0)).startswith("Run the dense network"), "inside the noise"


def test_case_3_a_gain_that_does_not_reach_the_best_dense_time_of_another_runtime() -> None:
    text = _advice(_row("slow", 1.5, 20.0))
    assert text.startswith("Run the dense network in best (batch 1, 2 threads)"), "10 / 20 of the best dense time"


def test_case_4_nothing_to_compare() -> None:
    assert _advice(_row("a", None, 9.0)).startswith("No advice")
    assert advice(SpeedupTable(Expected(5.0, 4.0), ()), 1, 1).startswith("No advice (batch 1, 1 thread)")
