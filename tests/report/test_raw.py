"""The report as data: its keys are a promise."""

import json
from pathlib import Path
from typing import Any

import pytest

from secateur.report import write_report

KEYS = {
    "": [
        *("schema", "secateur", "title", "model", "data", "command", "started", "finished", "seconds", "technique"),
        *(
            "accuracy",
            "runtime_accuracy",
            "after_training",
            "quantization",
            "reductions",
            "layers",
            "structure",
            "files",
            "load",
        ),
        *("latencies", "layer_times", "advice", "export_checks", "epochs", "levels", "stages", "recipe", "machine"),
    ],
    "technique": ["pattern", "sparsity", "planned", "base", "criterion", "allocation"],
    "accuracy": ["dense", "compressed", "drop", "drop_standard_error"],
    "accuracy.dense": ["top1", "top5", "loss", "images", "top1_standard_error"],
    "runtime_accuracy.0": ["runtime", "dense", "compressed"],
    "reductions.compressed": [
        *("base", "input_shape", "parameters", "dynamic_macs", "weights", "nonzeros", "bytes", "sparsity", "macs"),
        *("sparse_macs", "parameter_reduction", "compute_reduction"),
    ],
    "layers.1": [
        *("name", "kind", "shape", "weights", "nonzeros", "macs", "sparse_macs", "pattern", "level", "skipped"),
        *("storage", "note", "sparsity", "expected_speedup"),
    ],
    "layers.1.storage": ["format", "bytes", "dense_bytes"],
    "files.0": ["name", "dense", "compressed", "ratio"],
    "latencies.0": [
        *("runtime", "version", "uses_zeros", "ignores_zeros", "batch", "threads", "dense", "compressed", "within"),
        *("best_dense", "achieved", "expected_parameters", "expected_macs", "efficiency_parameters"),
        *("efficiency_macs", "failures", "memory"),
    ],
    "latencies.0.dense": ["median_ms", "p90_ms", "mad_ms", "min_ms", "runs", "first_call_ms"],
    "export_checks.0": ["subject", "max_abs_error", "max_rel_error", "tolerance", "top1_agreement", "images"],
    "stages.0": ["name", "kind", "seconds"],
}


@pytest.fixture(scope="module")
def report(written: Path) -> Any:
    return json.loads((written / "report.json").read_text())


def at(value: Any, path: str) -> Any:
    for step in filter(None, path.split(".")):
        value = value[int(step)] if step.isdigit() else value[step]
    return value


@pytest.mark.parametrize("path", KEYS)
def test_schema_2_has_these_keys(report: Any, path: str) -> None:
    assert report["schema"] == 2
    assert list(at(report, path)) == KEYS[path]


def test_numbers_are_raw(report: Any) -> None:
    assert report["accuracy"]["drop"] == 91.73 - 91.02
    assert report["reductions"]["compressed"]["macs"] == 40_551_040
    assert report["layers"][0]["shape"] == [16, 3, 3, 3]
    assert report["files"][1]["ratio"] == 1_082_368 / 241_664


def test_what_a_run_did_not_do_is_null_or_empty(run_maker: Any) -> None:
    folder = run_maker({}, stages=["evaluate"])
    write_report(folder)
    report = json.loads((folder / "report.json").read_text())
    assert list(report) == KEYS[""]
    assert report["accuracy"] is None
    assert report["reductions"] == {"dense": None, "compressed": None}
    assert report["latencies"] == []
