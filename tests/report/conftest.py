"""A run as the pipeline leaves it: ResNet-20 on CIFAR-10, 1x4 at 80 %, with numbers that tests compute from."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secateur.graph import Census, LayerCount, structure_table
from secateur.measure import (
    BenchmarkResult,
    LayerTime,
    LayerTimes,
    Machine,
    Row,
    RuntimeAccuracy,
    Timing,
    expected_of,
    speedup_table,
)
from secateur.measure.clock import summarize
from secateur.pipeline.record import RECIPE_FILE, RunRecord, StageRecord, load_record, save_record, stage_name
from secateur.recipe import build_recipe, save_recipe
from secateur.report import Content, collect, write_report
from secateur.report.sections import Section, sections

Results = dict[str, dict[str, Any]]
RunMaker = Callable[..., Path]

RUNTIMES = {
    "torch": ("2.13.0", "no: its kernels multiply every weight, zero or not.", 5.94),
    "torch.compile": ("2.13.0", "no: the compiled kernels multiply every weight, zero or not.", 2.71),
    "onnxruntime": ("1.23.2", "no: its CPU kernels multiply every weight, zero or not.", 1.46),
    "openvino": ("2025.3.0", "no: for float32 on a CPU it multiplies every weight, zero or not.", 1.12),
    "secateur": ("0.1.0", "yes: 1xN blocks and unstructured zeros of convolutions.", 1.31),
}
MACHINE: dict[str, Any] = {
    "cpu": "AMD EPYC 9B14",
    "architecture": "x86_64",
    "features": ["avx2", "avx512f", "avx512_vnni"],
    "cpus": 2,
    "physical_cores": 1,
    "memory_bytes": 25_276_510_208,
    "governor": None,
    "load_average": 0.31,
    "system": "Linux 6.1",
    "python": "3.12.3",
    "packages": {"secateur": "0.1.0", "numpy": "2.3.4", "onnxruntime": "1.23.2", "torch": "2.13.0"},
}
HOSTILE_NAMES = (
    "<script>console.error('layer')</script>",
    "a|b\nc\r\n| d |",
    '=HYPERLINK("http://evil")',
    "</svg></style><img src=x onerror=console.error('svg')>",
    "$\\frac{1}{0}$ $unclosed",
    "\x1b[31mred\x00\u202egnp.exe",
    "`code` *bold* _em_ [link](http://evil) ..",
    "\ud800 surrogate \ufffe",
    "层.卷积.🙂",
    "x" * 500,
    "{{ 7 * 7 }} {% raw %} &amp; &lt;",
    "@SUM(A1:A9)",
    ".. raw:: html",
    "-",
)
HOSTILE_TITLE = '"><script>console.error(3)</script><img src=x onerror=console.error(1)>\x00\ud800\n# ' + "W" * 300
HOSTILE_COMMAND = "</code></pre><script>console.error(2)</script><b>{{ 7 * 7 }}\na ```` b\n# c\n" + "x" * 4000
SKIPPED = {"conv1": "first convolution", "fc": "classifier"}


def resnet20() -> list[tuple[str, str, tuple[int, ...], int]]:
    """(name, kind, weight shape, output side) of CIFAR's ResNet-20 with option A."""
    layers: list[tuple[str, str, tuple[int, ...], int]] = [("conv1", "conv", (16, 3, 3, 3), 32)]
    channels = 16
    for stage, (width, side) in enumerate(((16, 32), (32, 16), (64, 8)), start=1):
        for block in range(3):
            for conv in (1, 2):
                shape = (width, channels, 3, 3)
                layers.append((f"layer{stage}.{block}.conv{conv}", "conv", shape, side))
                channels = width
    return [*layers, ("fc", "linear", (10, 64), 1)]


def census(sparsity: float) -> Census:
    layers = []
    for name, kind, shape, side in resnet20():
        weights = math.prod(shape)
        zeros = 0 if name in SKIPPED else int(weights * sparsity + 1e-6)
        layers.append(
            LayerCount(
                name=name,
                kind=kind,  # type: ignore[arg-type]
                shape=shape,
                groups=1,
                input_shape=(shape[1], side, side),
                output_shape=(shape[0], side, side),
                positions=side * side,
                weights=weights,
                nonzeros=weights - zeros,
                channels=shape[0],
            )
        )
    return Census(tuple(layers), (3, 32, 32), sum(layer.weights for layer in layers) + 1386)


def plan() -> dict[str, Any]:
    layers = [
        {
            "name": name,
            "kind": kind,
            "shape": list(shape),
            "groups": 1,
            "level": None if name in SKIPPED else 0.8055,
            "units": math.prod(shape) // 36,
            "zeros": 0 if name in SKIPPED else int(0.8055 * math.prod(shape)),
            "reason": SKIPPED.get(name),
        }
        for name, kind, shape, _ in resnet20()
    ]
    return {
        "sparsity": 0.8,
        "base": "conv_linear",
        "achieved": 0.7996,
        "pattern": "1x4",
        "remainder": "short",
        "criterion": "magnitude",
        "allocation": "uniform",
        "rounding": "floor",
        "ties": "exact",
        "capped": [],
        "layers": layers,
    }


def history(epochs: int, start: float, end: float, top1: float) -> list[dict[str, Any]]:
    rows = []
    for epoch in range(epochs):
        ramp = 1 - (1 - min(1.0, (epoch + 1) / (0.6 * epochs))) ** 3
        dip = 3.2 * ramp * (1 - (epoch + 1) / epochs) ** 0.7
        rows.append(
            {
                "epoch": epoch,
                "learning_rate": 0.01 * (1 + math.cos(math.pi * (epoch + 1) / epochs)) / 2,
                "loss": 0.42 - 0.02 * epoch / epochs + 0.11 * dip / 3,
                "train_accuracy": top1 + 1.4 - 1.3 * dip,
                "top1": round(top1 - dip, 2),
                "top5": 99.6 - dip / 20,
                "test_loss": 0.32 + dip / 30,
                "sparsity": start + (end - start) * ramp,
                "seconds": 21.4,
            }
        )
    return rows


def export() -> dict[str, Any]:
    dense, compressed = census(0.0), census(0.8055)
    generator = np.random.default_rng(0)
    tensors = {}
    for layer in compressed.layers:
        weight = generator.normal(0, 0.1, layer.shape).astype(np.float32)
        if layer.nonzeros < layer.weights:
            kernels = generator.random((layer.shape[0] // 4, 1, layer.shape[1], 1, 1)) < 0.8055
            weight = np.where(
                np.broadcast_to(kernels, (layer.shape[0] // 4, 4, *layer.shape[1:])).reshape(layer.shape), 0, weight
            )
        tensors[f"{layer.name}.weight"] = weight
    return {
        "files": {
            "model.onnx": 1_088_312,
            "weights.safetensors": 241_664,
            "dense/model.onnx": 1_088_312,
            "dense/weights.safetensors": 1_082_368,
        },
        "check": _check(3.1e-06),
        "check_dense": _check(2.6e-06),
        "census": {"dense": dense.to_dict(), "compressed": compressed.to_dict()},
        "structure": [{**vars(row), "shape": list(row.shape)} for row in structure_table(tensors).rows],
        "formats": {
            f"{layer.name}.weight": {
                "format": "dense" if layer.nonzeros == layer.weights else "1x4",
                "bytes": 4 * layer.nonzeros + (0 if layer.nonzeros == layer.weights else layer.weights // 36 * 2),
                "dense_bytes": 4 * layer.weights,
            }
            for layer in compressed.layers
        },
    }


def _check(error: float) -> dict[str, Any]:
    return {
        "max_abs_error": error,
        "max_rel_error": error / 14,
        "top1_agreement": 100.0,
        "images": 64,
        "tolerance": 1e-3,
        "passed": True,
    }


def timing(median: float, seed: int, runs: int = 100) -> Timing:
    """Times around `median`, exactly that in the middle."""
    noise = np.sort(np.random.default_rng(seed).gamma(2.0, 0.01, runs))
    samples = np.random.default_rng(seed).permutation(median * (1 + noise - np.median(noise)))
    return summarize(samples.tolist(), 8 * median)


def benchmark(settings: tuple[tuple[int, int], ...] = ((1, 1), (1, 2))) -> dict[str, Any]:
    rows = []
    for batch, threads in settings:
        for index, (name, (version, uses_zeros, dense_ms)) in enumerate(RUNTIMES.items()):
            for subject in ("dense", "compressed"):
                gain = 3.42 if name == "secateur" and subject == "compressed" else 1.0
                median = dense_ms / gain * batch**0.8 / threads**0.7
                rows.append(
                    Row(
                        subject=subject,
                        runtime=name,
                        version=version,
                        uses_zeros=uses_zeros,
                        batch=batch,
                        threads=threads,
                        timing=timing(median, index),
                        peak_memory=21_400_000 + 1_000_000 * index,
                        accuracy=RuntimeAccuracy(91.8 if subject == "dense" else 90.82, 99.61, 512),
                    )
                )
    result = BenchmarkResult(tuple(rows), Machine.from_dict(MACHINE), (3, 32, 32))
    expected = expected_of(census(0.8055))
    return {
        "benchmark": result.to_dict(),
        "speedups": speedup_table(result, expected).to_dict(),
        "advice": ["Use secateur (batch 1, 1 thread).", "Use secateur (batch 1, 1 thread)."],
        "layers": [layer_times("secateur").to_dict(), layer_times("onnxruntime").to_dict()],
    }


def layer_times(runtime: str) -> LayerTimes:
    """A profile in which every layer takes 0.2 ms dense and 0.16 ms compressed; the classifier was not found."""
    layers = [
        LayerTime(layer.name, 0.2, 0.16, 5.0, layer.weights / layer.nonzeros, 0.2 / 0.16)
        if layer.name != "fc"
        else LayerTime(layer.name, None, None, None, 1.0)
        for layer in census(0.8055).layers
    ]
    return LayerTimes(runtime, 1, 1, tuple(layers))


def resnet20_results() -> Results:
    """Results by stage name, in order."""
    kinds_and_results: list[tuple[str, dict[str, Any]]] = [
        ("evaluate", {"top1": 91.73, "top5": 99.71, "loss": 0.3126, "images": 10_000}),
        ("sparsify", {"plan": plan(), "history": history(10, 0.05, 0.7996, 90.6)}),
        ("finetune", {"history": history(4, 0.7996, 0.7996, 91.02)}),
        ("evaluate", {"top1": 91.02, "top5": 99.66, "loss": 0.3041, "images": 10_000}),
        ("export", export()),
        ("benchmark", benchmark()),
        ("report", {"files": []}),
    ]
    return {stage_name(index, kind): result for index, (kind, result) in enumerate(kinds_and_results)}


COMMAND = (
    "secateur compress resnet20_cifar10 --data cifar10 --weights resnet20.safetensors "
    "--pattern 1x4 --sparsity 0.8 --out run"
)


def make_run(
    folder: Path,
    results: Results | None = None,
    *,
    model: str = "resnet20_cifar10",
    command: str = COMMAND,
    machine: dict[str, Any] | None = None,
    stages: list[str] | None = None,
) -> Path:
    """A run folder that holds `results`; `stages` are the kinds the recipe asks for, by default those with results."""
    results = resnet20_results() if results is None else results
    kinds = stages or [name.split("-", 1)[1] for name in results]
    recipe = build_recipe(
        {
            "model": {"name": model, "weights": "pretrained"},
            "data": {"name": "cifar10"},
            "stages": [{"stage": kind} for kind in kinds],
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_recipe(recipe, folder / RECIPE_FILE)
    records = []
    for index, (name, result) in enumerate(results.items()):
        path = folder / "stages" / name / "result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
        records.append(StageRecord(name, name.split("-", 1)[1], f"key{index}", 3.5 * 7**index % 400, result))
    record = RunRecord(
        folder, recipe, command, "2026-02-03T10:20:30+00:00", MACHINE if machine is None else machine, tuple(records)
    )
    save_record(record)
    return folder


@pytest.fixture
def run_maker(tmp_path: Path) -> RunMaker:
    """Makes run folders below tmp_path: run_maker(results, name='run', **what_make_run_takes)."""

    def make(results: Results | None = None, name: str = "run", **more: Any) -> Path:
        return make_run(tmp_path / name, results, **more)

    return make


@pytest.fixture
def results() -> Results:
    return resnet20_results()


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder with its report; tests only read it."""
    folder = make_run(tmp_path_factory.mktemp("written") / "run")
    write_report(folder)
    return folder


@pytest.fixture(scope="session")
def content(written: Path) -> Content:
    return collect(load_record(written))


@pytest.fixture(scope="session")
def shown(content: Content) -> tuple[Section, ...]:
    return sections(content)


@pytest.fixture
def small_results(results: Results) -> Results:
    """A run without anything to draw: accuracy before and after a one-shot sparsification."""
    plan = {**results["02-sparsify"], "history": []}
    before, after = results["01-evaluate"], results["04-evaluate"]
    return {"01-evaluate": before, "02-sparsify": plan, "03-evaluate": after, "04-report": {"files": []}}


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, with its report, whose names are those an attacker would choose."""
    folder = make_run(tmp_path_factory.mktemp("hostile") / "run", hostile_results(), command=HOSTILE_COMMAND)
    write_report(folder, HOSTILE_TITLE)
    return folder


def hostile_results() -> Results:
    results = resnet20_results()
    names = [layer["name"] for layer in results["02-sparsify"]["plan"]["layers"]]
    text = json.dumps(results)
    for name, name_of_attacker in zip(names, HOSTILE_NAMES, strict=False):
        text = text.replace(json.dumps(name), json.dumps(name_of_attacker))
        text = text.replace(json.dumps(f"{name}.weight"), json.dumps(f"{name_of_attacker}.weight"))
    return json.loads(text.replace('"openvino"', json.dumps("<b>open</b>|vino\n=1+1")))
