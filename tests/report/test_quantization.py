"""The section on quantization: bits, size, accuracy and latency of every runtime, the waterfall, what stays float."""

from dataclasses import replace

import pytest

from secateur.errors import ArtifactError
from secateur.measure import SIMULATED, Answers, BenchmarkResult, Comparison, Failure, Machine, Row, RuntimeAccuracy
from secateur.measure.clock import summarize
from secateur.measure.result import RowFailure
from secateur.report.fields import Fields
from secateur.report.quantization import quantization
from secateur.report.quantization_tables import (
    files_table,
    leads,
    noise_chart,
    numbers_table,
    runtimes_table,
    times_table,
)


def answers(subject, runtime, top1, same):
    return Answers(subject, runtime, 100, RuntimeAccuracy(top1, 99.0, 100), same, 0.5)


ROWS = Comparison(
    (
        answers("float", "onnxruntime", 92.0, 100.0),
        answers("int8", "onnxruntime", 91.0, 97.0),
        Answers("int8", "secateur", 100, failure=RowFailure(Failure.CRASHED, "no such operator.")),
        answers("int8", SIMULATED, 91.5, 98.0),
    )
)
LAYERS = [
    {"name": "conv1", "kind": "Conv", "shape": [16, 3, 3, 3], "bits": 8, "activation_bits": 8, "steps": 16,
     "own_noise": 41.0, "noise": 41.0, "beyond": 0.001, "reason": None},
    {"name": "conv2", "kind": "Conv", "shape": [16, 16, 3, 3], "bits": 4, "activation_bits": 8, "steps": 16,
     "own_noise": 22.0, "noise": 20.0, "beyond": 0.0, "reason": None},
    {"name": "fc", "kind": "Gemm", "shape": [10, 16], "bits": None, "activation_bits": 8, "steps": None,
     "own_noise": None, "noise": None, "beyond": None, "reason": "kept by 'last'"},
]  # fmt: skip
RESULT = {
    "numbers": "int8",
    "method": "ptq",
    "layers": LAYERS,
    "floats": {"Sigmoid": "Sigmoid is computed in float"},
    "calibration": {"data": "cifar10", "split": "train", "of": 50000, "seed": 0, "indices": list(range(512))},
    "runtimes": ROWS.to_dict(),
    "bytes": {"model.onnx": 400_000, "model.int8.onnx": 110_000, "weights.int8.safetensors": 40_000},
    "guard": {
        "bound": 1.0,
        "before": 95.0,
        "after": 99.5,
        "held": True,
        "returned": [{"node": "fc", "reason": "noise"}],
    },
}


def timing(milliseconds):
    return summarize([milliseconds] * 5, 1.0)


def benchmark():
    rows = tuple(
        Row(subject, "onnxruntime", "1.0", "no.", 1, 1, timing(milliseconds))
        for subject, milliseconds in (("dense", 4.0), ("compressed", 3.0), ("int8", 1.5))
    )
    machine = Machine.from_dict(
        {"cpu": "x", "architecture": "x", "features": [], "cpus": 2, "physical_cores": 1, "memory_bytes": 1,
         "governor": None, "load_average": 0.1, "system": "x", "python": "3", "packages": {}}
    )  # fmt: skip
    return BenchmarkResult(rows, machine, (3, 32, 32))


def read(measured=None, **changes):
    return quantization(Fields(RESULT | changes, "result.json"), measured)


def test_the_leads_tell_numbers_images_and_the_guard():
    first, second, third = leads(read())
    assert "int8" in first and "4 to 8 bits" in first and "512 images of cifar10" in first
    assert "95.00" in second and "99.50" in second and "1 operators" in second
    assert "1 of 3 layers stay float" in third
    assert "no layer had to" in leads(read(guard=RESULT["guard"] | {"returned": []}))[1]
    assert "not held" in leads(read(guard=RESULT["guard"] | {"held": False}))[2]


def test_every_runtime_has_bits_size_accuracy_and_latency():
    table = runtimes_table(read(benchmark()))
    keys = [column.key for column in table.columns]
    rows = [dict(zip(keys, row, strict=True)) for row in table.rows]
    assert rows[0]["network"] == "float" and rows[0]["bits"] == "32" and rows[0]["bytes"] == 400_000
    # The float file is the compressed network, and not the dense one.
    assert rows[0]["ms"] == 3.0 and rows[0]["gain"] is None
    assert rows[1]["ms"] == 1.5 and rows[1]["gain"] == 2.0 and rows[1]["top1"] == 91.0 and rows[1]["bits"] == "4 to 8"
    assert rows[2]["failure"] == "no such operator." and rows[2]["top1"] is None
    assert rows[3]["runtime"] == "simulated" and rows[3]["ms"] is None


def test_without_labels_and_times_there_are_no_empty_columns():
    plain = Comparison(tuple(replace(row, accuracy=None, failure=None) for row in ROWS.rows))
    table = runtimes_table(read(runtimes=plain.to_dict()))
    assert not {"top1", "ms", "gain", "failure"} & {column.key for column in table.columns}
    assert times_table(read()) is None


def test_layers_tell_noise_or_why_they_stay_float_and_so_do_operators():
    rows = numbers_table(read()).rows
    assert rows[0][3:8] == (8, 8, 41.0, 41.0, 0.001) and rows[0][8] is None
    assert rows[2][3] is None and rows[2][4] is None and rows[2][8] == "kept by 'last'"
    assert rows[3][0] == "Sigmoid" and "computed in float" in rows[3][8]


def test_files_are_compared_with_the_float_one():
    assert files_table(read()).rows[1] == ("weights.int8.safetensors", 40_000, 0.1)
    assert times_table(read(benchmark())).rows[0][3:5] == (3.0, 1.5)


def test_the_waterfall_is_drawn_in_order_and_the_noisiest_of_many():
    chart = noise_chart(read())
    assert chart.wide.index("conv1") < chart.wide.index("conv2") and "decibels" in chart.caption
    assert noise_chart(read(layers=LAYERS[:1])) is None
    many = [LAYERS[0] | {"name": f"layer{index}", "noise": float(index + 1)} for index in range(80)]
    assert "layer59" in noise_chart(read(layers=many)).wide and "layer60" not in noise_chart(read(layers=many)).wide


def test_halves_have_no_layers():
    found = read(numbers="fp16", layers=[], guard=None, runtimes=None)
    assert found.bits == "16" and numbers_table(replace(found, floats=())) is None and runtimes_table(found) is None
    assert quantization(None, None) is None


def test_damage_is_told():
    with pytest.raises(ArtifactError, match="runtimes"):
        read(runtimes={"rows": [{}]})
    with pytest.raises(ArtifactError, match="'bytes' is missing"):
        read(bytes=None)
