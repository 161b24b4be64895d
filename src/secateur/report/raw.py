"""The report as data: every number that the page shows, unrounded, under names that do not change.

`schema` counts up when a key is renamed, moved or removed; new keys may appear without it.
"""

from dataclasses import asdict
from typing import Any

from secateur.graph import Census
from secateur.report.content import Accuracy, Content, FileSize, Latency, Layer, Level

SCHEMA = 2


def raw(content: Content, version: str) -> dict[str, Any]:
    """Plain JSON of all facts; what a run did not do is null or empty. `version` is that of Secateur."""
    return {
        "schema": SCHEMA,
        "secateur": version,
        "title": content.title,
        "model": content.model,
        "data": content.data,
        "command": content.command,
        "started": content.started,
        "finished": content.finished,
        "seconds": content.seconds,
        "technique": asdict(content.technique) if content.technique else None,
        "accuracy": _change(content),
        "runtime_accuracy": [asdict(row) for row in content.runtime_accuracy],
        "after_training": asdict(content.after_training) if content.after_training else None,
        "quantization": asdict(content.quantization) if content.quantization else None,
        "reductions": {"dense": _totals(content.dense), "compressed": _totals(content.compressed)},
        "layers": [_layer(layer) for layer in content.layers],
        "structure": [asdict(row) for row in content.structure],
        "files": [_file(file) for file in content.files],
        "load": {"load_average": content.load, "cpus": content.cpus},
        "latencies": [_latency(row) for row in content.latencies],
        "layer_times": [times.to_dict() for times in content.layer_times],
        "advice": list(content.advice),
        "export_checks": [asdict(check) for check in content.checks],
        "epochs": [asdict(epoch) for epoch in content.epochs],
        "levels": [_level(level) for level in content.levels],
        "stages": [asdict(stage) for stage in content.stages],
        "recipe": content.recipe,
        "machine": dict(content.machine),
    }


def _change(content: Content) -> dict[str, Any] | None:
    change = content.accuracy
    if change is None:
        return None
    return {
        "dense": _accuracy(change.dense),
        "compressed": _accuracy(change.compressed),
        "drop": change.drop,
        "drop_standard_error": change.drop_error,
    }


def _accuracy(value: Accuracy | None) -> dict[str, Any] | None:
    return None if value is None else asdict(value) | {"top1_standard_error": value.standard_error}


def _totals(census: Census | None) -> dict[str, Any] | None:
    if census is None:
        return None
    counts = census.to_dict()
    return {
        "base": "conv_linear",
        "input_shape": counts["input_shape"],
        "parameters": counts["parameters"],
        "dynamic_macs": counts["dynamic_macs"],
        **counts["totals"],
    }


def _layer(layer: Layer) -> dict[str, Any]:
    derived = {"sparsity": layer.sparsity, "expected_speedup": layer.expected_speedup}
    return asdict(layer) | {"shape": list(layer.shape)} | derived


def _file(file: FileSize) -> dict[str, Any]:
    return asdict(file) | {"ratio": file.ratio}


def _latency(row: Latency) -> dict[str, Any]:
    """Without the empty list of samples: those are in the benchmark stage's result."""
    value = asdict(row)
    for name in ("dense", "compressed"):
        if value[name]:
            del value[name]["samples"]
    return value


def _level(level: Level) -> dict[str, Any]:
    return {
        "folder": level.folder,
        "accuracy": _accuracy(level.accuracy),
        "totals": _totals(level.census),
        "weights_bytes": level.weights_bytes,
    }
