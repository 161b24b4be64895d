"""Rows of a benchmark, paired and set against what was promised."""

from typing import Any

import pytest

from secateur.pipeline.record import load_record
from secateur.report import Content, collect
from secateur.report.content import Latency


def row_of(content: Content, runtime: str, threads: int) -> Latency:
    return next(row for row in content.latencies if (row.runtime, row.threads) == (runtime, threads))


def test_achieved_is_the_best_dense_time_by_the_compressed_one(content: Content) -> None:
    row = row_of(content, "secateur", 1)
    assert row.best_dense == "openvino"
    assert row.achieved == pytest.approx(1.12 / (1.31 / 3.42), rel=1e-4)
    assert row.within is not None
    assert row.within.median == pytest.approx(3.42, rel=1e-3)


def test_expected_and_efficiency_follow_from_the_census(content: Content) -> None:
    row = row_of(content, "secateur", 1)
    assert content.compressed is not None
    assert row.expected_parameters == pytest.approx(content.compressed.weights / content.compressed.nonzeros)
    assert row.expected_macs == pytest.approx(content.compressed.macs / content.compressed.sparse_macs)
    assert row.achieved is not None
    assert row.efficiency_macs == pytest.approx(row.achieved / row.expected_macs)


def test_a_runtime_without_a_gain_is_no_difference(content: Content) -> None:
    row = row_of(content, "onnxruntime", 2)
    assert row.ignores_zeros
    assert row.within is not None
    assert row.within.no_difference


def test_samples_stay_in_the_result_of_the_stage(content: Content) -> None:
    assert all(row.dense is not None and row.dense.samples == () for row in content.latencies)


def test_accuracy_is_one_row_for_each_runtime(content: Content) -> None:
    assert [row.runtime for row in content.runtime_accuracy] == list(
        dict.fromkeys(row.runtime for row in content.latencies)
    )
    first = content.runtime_accuracy[0]
    assert first.dense is not None
    assert first.compressed is not None
    assert (first.dense.top1, first.compressed.top1, first.dense.images) == (91.8, 90.82, 512)


def test_without_a_census_nothing_is_promised(run_maker: Any, results: Any) -> None:
    del results["05-export"]["census"]
    content = collect(load_record(run_maker(results)))
    row = row_of(content, "secateur", 1)
    assert row.expected_macs is None
    assert row.efficiency_macs is None
    assert row.achieved == pytest.approx(2.92, abs=0.01)


def test_a_failed_runtime_keeps_its_reason(run_maker: Any, results: Any) -> None:
    for row in results["06-benchmark"]["benchmark"]["rows"]:
        if row["runtime"] == "openvino" and row["subject"] == "compressed":
            row.update(timing=None, accuracy=None, failure={"category": "crashed", "message": "no such op."})
    row = row_of(collect(load_record(run_maker(results))), "openvino", 1)
    assert row.compressed is None
    assert row.achieved is None
    assert row.failures == {"compressed": "crashed: no such op."}
