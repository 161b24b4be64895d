"""Expected and achieved: published figures and closed forms (ALGORITHMS L12)."""

import pytest

from secateur.errors import MeasureError
from secateur.graph import Census, LayerCount
from secateur.measure import (
    BenchmarkResult,
    Expected,
    Failure,
    Row,
    RowFailure,
    efficiency,
    expected_of,
    expected_of_sparsity,
    machine,
    speedup_table,
)
from secateur.measure.clock import summarize


@pytest.mark.parametrize(("sparsity", "speedup"), [(0.0, 1.0), (0.5, 2.0), (0.8, 5.0), (0.95, 20.0)])
def test_expected_of_sparsity(sparsity: float, speedup: float) -> None:
    assert expected_of_sparsity(sparsity) == pytest.approx(speedup)


def test_everything_zero_promises_nothing() -> None:
    with pytest.raises(MeasureError):
        expected_of_sparsity(1.0)


def test_published_efficiencies() -> None:
    assert efficiency(2.6, expected_of_sparsity(0.95)) == pytest.approx(13.0)
    achieved = 18.19 / 4.46
    assert achieved == pytest.approx(4.078, abs=5e-4)
    assert efficiency(achieved, expected_of_sparsity(0.9)) == pytest.approx(40.8, abs=0.05)


def test_the_two_layers_of_the_structure_seed() -> None:
    """Halving the layer of 147,456 weights or that of 589,824 removes the same MACs but not the same weights."""

    def layer(name: str, weights: int, positions: int, kept: float) -> LayerCount:
        nonzeros = int(weights * kept)
        return LayerCount(name, "conv", (weights, 1, 1, 1), 1, (), (), positions, weights, nonzeros)

    def expected(first: float, second: float) -> Expected:
        layers = (layer("a", 147_456, 784, first), layer("b", 589_824, 196, second))
        return expected_of(Census(layers, (3, 224, 224), 737_280))

    assert expected(0.5, 1.0).compute == expected(1.0, 0.5).compute == pytest.approx(4 / 3)
    assert expected(0.5, 1.0).parameters == pytest.approx(737_280 / (737_280 - 73_728))
    assert expected(1.0, 0.5).parameters == pytest.approx(737_280 / (737_280 - 294_912))


def _row(subject: str, runtime: str, times: list[float] | None, uses: str = "no: never.") -> Row:
    timing = summarize(times, 0.0) if times else None
    failure = None if times else RowFailure(Failure.CRASHED, "boom")
    return Row(subject, runtime, "1", uses, 1, 1, timing, failure=failure)


def _result(*rows: Row) -> BenchmarkResult:
    return BenchmarkResult(rows, machine(), (3, 8, 8))


def test_achieved_is_measured_against_the_best_dense_runtime() -> None:
    table = speedup_table(
        _result(
            _row("dense", "slow", [20.0] * 9),
            _row("compressed", "slow", [5.0] * 9, "yes: blocks."),
            _row("dense", "fast", [10.0] * 9),
            _row("compressed", "fast", [10.0] * 9),
        ),
        Expected(parameters=5.0, compute=4.0),
    )
    slow, fast = table.rows
    assert slow.within is not None
    assert fast.within is not None
    assert (slow.within.median, slow.achieved, slow.best_dense) == (4.0, 2.0, "fast")
    assert slow.percent_of_parameters == pytest.approx(40.0)
    assert slow.percent_of_compute == pytest.approx(50.0)
    assert slow.failure is None
    assert fast.within.no_difference
    assert fast.failure is Failure.IGNORES_ZEROS
    assert table.best(1, 1) is slow
    assert "runtime ignores zeros" in str(table)
    assert table.to_dict()["rows"][1]["failure"] == "runtime ignores zeros"


def test_a_row_that_failed_has_its_category_and_costs_nobody_else_a_figure() -> None:
    table = speedup_table(
        _result(
            _row("dense", "a", [10.0] * 9),
            _row("compressed", "a", None),
            _row("dense", "b", None),
            _row("compressed", "b", [5.0] * 9),
        ),
        Expected(2.0, 2.0),
    )
    assert table.rows[0].failure is Failure.CRASHED
    assert table.rows[0].achieved is None
    assert table.rows[1].within is None
    assert table.rows[1].achieved == 2.0


def test_without_any_dense_time_nothing_is_achieved() -> None:
    (row,) = speedup_table(_result(_row("compressed", "a", [5.0] * 9)), Expected(2.0, 2.0)).rows
    assert (row.compressed_ms, row.achieved, row.percent_of_compute) == (5.0, None, None)
