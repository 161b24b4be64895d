"""From a recorded run to facts: what belongs to what, and what a missing or damaged part does."""

from pathlib import Path
from typing import Any

import pytest

from secateur.errors import ArtifactError
from secateur.pipeline.record import load_record
from secateur.report import Content, collect
from secateur.report.write import render


def content_of(folder: Path) -> Content:
    return collect(load_record(folder))


def test_dense_is_before_the_first_zeros_and_compressed_the_last_after(run_maker: Any) -> None:
    def result(top1: float) -> dict[str, Any]:
        return {"top1": top1, "top5": 99.0, "loss": 0.3, "images": 100}

    plan = {"plan": {**PLAN, "layers": []}, "history": []}
    results = {
        "01-evaluate": result(1.0),
        "02-train": {"history": []},
        "03-evaluate": result(90.0),
        "04-sparsify": plan,
        "05-evaluate": result(80.0),
        "06-finetune": {"history": []},
        "07-evaluate": result(89.0),
    }
    accuracy = content_of(run_maker(results)).accuracy
    assert accuracy is not None
    assert accuracy.dense is not None
    assert accuracy.compressed is not None
    assert (accuracy.dense.top1, accuracy.compressed.top1) == (90.0, 89.0)
    assert accuracy.drop == 1.0


PLAN: dict[str, Any] = {
    "sparsity": 0.8,
    "achieved": 0.8,
    "pattern": "1x4",
    "base": "conv_linear",
    "criterion": "magnitude",
    "allocation": "uniform",
}


def test_layers_join_census_plan_and_storage(content: Content) -> None:
    by_name = {layer.name: layer for layer in content.layers}
    assert len(by_name) == 20
    first, inner = by_name["conv1"], by_name["layer3.2.conv2"]
    assert first.skipped == "first convolution"
    assert first.pattern is None
    assert inner.pattern == "1x4"
    assert inner.weights == 36_864
    assert inner.nonzeros == 36_864 - int(0.8055 * 36_864)
    assert inner.macs == 36_864 * 64
    assert inner.storage is not None
    assert inner.storage.format == "1x4"


def test_epochs_are_numbered_over_all_stages(content: Content) -> None:
    assert [epoch.index for epoch in content.epochs] == list(range(1, 15))
    assert [epoch.epoch for epoch in content.epochs] == [*range(1, 11), *range(1, 5)]
    assert {epoch.stage for epoch in content.epochs} == {"02-sparsify", "03-finetune"}


def test_files_stand_beside_their_dense_counterpart(content: Content) -> None:
    sizes = {file.name: (file.dense, file.compressed) for file in content.files}
    assert sizes == {"model.onnx": (1_088_312, 1_088_312), "weights.safetensors": (1_082_368, 241_664)}


def test_title_is_given_or_of_the_recipe_or_model_and_data(run_maker: Any) -> None:
    record = load_record(run_maker())
    assert collect(record).title == "resnet20_cifar10 on cifar10"
    assert collect(record, "Mine").title == "Mine"


def test_the_report_stage_itself_does_not_count(run_maker: Any, results: Any) -> None:
    del results["07-report"]
    unfinished = content_of(run_maker(results, stages=[*(name[3:] for name in results), "report"]))
    assert unfinished.finished
    assert "report" not in [stage.kind for stage in unfinished.stages]


def test_open_stages_are_named_and_the_run_is_not_finished(run_maker: Any, results: Any) -> None:
    first = {"01-evaluate": results["01-evaluate"]}
    content = content_of(run_maker(first, stages=["evaluate", "sparsify", "evaluate"]))
    assert not content.finished
    assert [(stage.name, stage.seconds) for stage in content.stages] == [
        ("01-evaluate", 3.5),
        ("02-sparsify", None),
        ("03-evaluate", None),
    ]


def test_a_run_with_nothing_finished_is_still_content(run_maker: Any) -> None:
    content = content_of(run_maker({}, stages=["evaluate"]))
    assert content.accuracy is None
    assert content.layers == ()


def test_machine_is_flat_and_readable(content: Content) -> None:
    machine = dict(content.machine)
    assert machine["CPU"] == "AMD EPYC 9B14"
    assert machine["features"] == "avx2 avx512f avx512_vnni"
    assert machine["memory"].replace("\u00a0", " ") == "25.3 GB"
    assert machine["torch"] == "2.13.0"
    assert "governor" not in machine


def test_times_of_layers_of_an_earlier_version_are_those_of_one_runtime(run_maker: Any, results: Any) -> None:
    measured = results["06-benchmark"]
    both = content_of(run_maker(results)).layer_times
    measured["layers"] = next(times for times in measured["layers"] if times["runtime"] == "onnxruntime")
    assert content_of(run_maker(results, "earlier")).layer_times == tuple(
        times for times in both if times.runtime == "onnxruntime"
    )


@pytest.mark.parametrize("layers", [None, [], "absent"])
def test_a_run_without_times_of_layers_says_so(run_maker: Any, results: Any, layers: Any) -> None:
    results["06-benchmark"]["layers"] = layers
    if layers == "absent":
        del results["06-benchmark"]["layers"]
    content = content_of(run_maker(results))
    assert content.layer_times == ()
    assert "The benchmark of this run recorded no times of single layers." in render(content)["report.md"]


def test_a_run_with_times_of_layers_does_not(content: Content) -> None:
    assert "no times of single layers" not in render(content)["report.md"]


@pytest.mark.parametrize(
    ("stage", "damage", "sentence"),
    [
        ("01-evaluate", {"top1": 91.0}, "01-evaluate/result.json: damaged: 'images' is missing"),
        ("01-evaluate", {"top1": 191.0, "images": 5}, "a top-1 of 191.0 % on 5 images"),
        ("02-sparsify", {"plan": {"pattern": 4}}, "plan: damaged: 'pattern' is 4 and not a text"),
        ("03-finetune", {"history": [{"epoch": "one"}]}, r"history\[0\]: damaged: 'epoch' is 'one'"),
        ("05-export", {"census": {"compressed": {"layers": 3}}}, "not a census"),
        ("05-export", {"files": {"model.onnx": "big"}}, "'model.onnx' is 'big' and not a finite number"),
        ("06-benchmark", {"benchmark": {"rows": [{"timing": {"median_ms": 0}}]}}, "'p90_ms' is missing"),
        ("06-benchmark", {"benchmark": {"rows": [{}]}}, "not a benchmark result"),
        ("06-benchmark", {"layers": {"runtime": "onnxruntime"}}, "not times of layers"),
        ("06-benchmark", {"layers": "none"}, "'layers' is 'none' and not a list"),
    ],
)
def test_a_damaged_result_is_a_sentence_with_file_and_key(
    run_maker: Any, results: Any, stage: str, damage: dict[str, Any], sentence: str
) -> None:
    results[stage] = damage
    with pytest.raises(ArtifactError, match=sentence):
        content_of(run_maker(results))
