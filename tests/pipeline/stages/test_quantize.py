"""Stage `quantize`: its files, figures of every runtime, resumed and repeated; what contradicts itself is refused."""

import json

import numpy as np
import onnx
import pytest

import secateur
from secateur.errors import RecipeError
from secateur.export import load_packed_onnx
from secateur.pipeline import load_record
from secateur.quantization.table import ScaleTable

QUICK = {"images": 24, "held_out": 8, "judge_images": 16}


def recipe(*stages, **quantize):
    return {
        "model": {"name": "tiny_networks:network"},
        "data": {"name": "tiny_networks:images"},
        "stages": [*stages, {"stage": "quantize", **QUICK, **quantize}, {"stage": "export"}],
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    train = {"stage": "train", "training": {"epochs": 3, "learning_rate": 0.02}}
    zeros = {"stage": "sparsify", "pattern": "unstructured", "sparsity": 0.5, "training": {"epochs": 0}}
    stages = (train, zeros, {"stage": "evaluate"})
    whole = recipe(*stages)
    whole["stages"] += [
        {"stage": "benchmark", "runtimes": ["onnxruntime"], "threads": [1], "repeats": 2, "warmup": 0},
        {"stage": "report"},
    ]
    return secateur.compress(recipe=whole, out=folder)


def test_the_artifact_has_the_float_and_the_quantized_network(run):
    for name in ("model.onnx", "model.int8.onnx", "weights.int8.safetensors", "scales.json", "dense/model.onnx"):
        assert (run.folder / name).is_file(), name
    model = onnx.load(run.folder / "model.int8.onnx")
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    assert load_packed_onnx(run.folder / "weights.int8.safetensors").SerializeToString() == model.SerializeToString()
    table = ScaleTable.load(run.folder / "scales.json")
    assert {"body.weight", "point.weight", "classifier.weight"} <= set(table.weights)
    plan = json.loads((run.folder / "plan.json").read_text())
    assert plan["quantize"]["numbers"] == "int8"
    assert {row["name"]: row["bits"] for row in plan["quantize"]["layers"]}["body"] == 8


def test_zeros_stay_zeros(run):
    """What the stage before has removed is the integer that stands for zero."""
    plain = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(run.folder / "model.onnx").graph.initializer}
    model = onnx.load(run.folder / "model.int8.onnx")
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    found = 0
    for name, weight in plain.items():
        if not name.endswith(".weight") or weight.ndim < 2:
            continue
        integers = next(
            t for key, t in stored.items() if t.dtype == np.int8 and t.shape == weight.shape and name in key
        )
        assert np.all(integers[weight == 0] == 0)
        found += int((weight == 0).sum())
    assert found > 900


def test_every_runtime_gives_its_accuracy_beside_the_simulated_one(run):
    made = load_record(run.folder).results("quantize")[0]
    rows = {(row["subject"], row["runtime"]): row for row in made["runtimes"]["rows"]}
    assert ("int8", "simulated") in rows and ("int8", "onnxruntime") in rows and ("float", "onnxruntime") in rows
    assert rows["float", "onnxruntime"]["same_class"] == 100 and rows["int8", "onnxruntime"]["same_class"] >= 75
    assert rows["int8", "onnxruntime"]["accuracy"]["images"] == 16
    assert made["guard"]["bound"] == 3.0 and made["verification"]["images"] == 8
    layers = {row["name"]: row for row in made["layers"]}
    assert all(layer["noise"] > 5 for layer in layers.values() if layer["bits"] is not None)


def test_all_files_of_the_run_are_timed(run):
    rows = load_record(run.folder).results("benchmark")[0]["benchmark"]["rows"]
    assert [row["subject"] for row in rows] == ["dense", "compressed", "int8"]
    assert all(row["timing"] for row in rows)


def test_the_page_shows_bits_accuracy_and_latency(run):
    page = (run.folder / "report.md").read_text()
    assert "## Quantization" in page and "simulated" in page and "model.int8.onnx" in page
    report = json.loads((run.folder / "report.json").read_text())
    assert report["quantization"]["timed"][0]["quantized"]["median_ms"] > 0
    assert "Noise from layer to layer" in (run.folder / "report.html").read_text()


def test_a_finished_stage_is_kept_and_a_lost_file_made_again(run):
    stage = next(stage for stage in load_record(run.folder).stages if stage.kind == "quantize")
    file = run.folder / "stages" / stage.name / "model.int8.onnx"
    before, content = file.stat().st_mtime_ns, file.read_bytes()
    again = secateur.compress(recipe=run.record.recipe, out=run.folder)
    assert again.record.finished and file.stat().st_mtime_ns == before
    file.unlink()
    secateur.compress(recipe=run.record.recipe, out=run.folder)
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    "keys",
    [
        {"rounding": "columns", "equalize": True, "weights": "tensor"},
        {"bits": 4, "layer_bits": {"stem": 8, "class*": 8}, "guard": None, "observer": "mse"},
        {"activations": "signed", "float_layers": ["last", "depthwise"], "correct_bias": False},
        {"rounding": "learned", "learned": {"steps": 4, "batch_size": 8}},
    ],
)
def test_ways_of_quantizing(tmp_path, keys):
    result = secateur.compress(recipe=recipe(**keys), out=tmp_path / "run")
    made = load_record(result.folder).results("quantize")[0]
    bits = {row["name"]: row["bits"] for row in made["layers"]}
    if keys.get("bits") == 4:
        assert (bits["stem"], bits["body"], bits["classifier"]) == (8, 4, 8)
    if "float_layers" in keys:
        assert bits["classifier"] is None and bits["depthwise"] is None and bits["body"] == 8
        reasons = {row["name"]: row["reason"] for row in made["layers"]}
        assert "last" in reasons["classifier"]
    if keys.get("weights") == "tensor":
        assert all(row["steps"] == 1 for row in made["layers"] if row["bits"])


def test_trained_with_its_numbers(tmp_path):
    zeros = {"stage": "sparsify", "pattern": "unstructured", "sparsity": 0.5, "training": {"epochs": 0}}
    trained = {
        "method": "qat",
        "qat": {"scheme": "lsq", "weight_bits": 4},
        "training": {"epochs": 2},
        "distillation": {},
    }
    result = secateur.compress(recipe=recipe(zeros, **trained), out=tmp_path / "run")
    made = load_record(result.folder).results("quantize")[0]
    assert len(made["history"]) == 2 and {row["bits"] for row in made["layers"]} == {4}
    assert (result.folder / "dense" / "model.onnx").is_file() and (result.folder / "model.int8.onnx").is_file()
    counts = secateur.census(result.folder / "model.onnx")
    assert counts.sparsity >= 0.45


@pytest.mark.parametrize(
    ("stages", "fault"),
    [
        ([{"stage": "quantize", "observer": "minmx"}], "Did you mean 'minmax'"),
        ([{"stage": "quantize"}, {"stage": "train"}], "comes after 'quantize'"),
        ([{"stage": "quantize", "bits": 9}], "less than or equal to 8"),
        ([{"stage": "quantize", "qat": {}}], "for method: qat"),
        ([{"stage": "quantize", "numbers": "fp16", "bits": 4}], "halves have neither"),
        ([{"stage": "quantize", "mixed": {}, "layer_bits": {"a": 4}}], "write one of them"),
        ([{"stage": "quantize", "layer_bits": {"nothing": 4}}], "name of no layer"),
    ],
)
def test_what_contradicts_itself_is_a_sentence(tmp_path, stages, fault):
    with pytest.raises(RecipeError, match=fault):
        secateur.compress(recipe=recipe() | {"stages": stages}, out=tmp_path / "run")
