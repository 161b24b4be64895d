"""From the folder of a job on an ONNX file (`secateur sparsify`, `secateur quantize`) to the facts of its report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from secateur.files import read_json
from secateur.pipeline.onnx_job import RESULT_FILE
from secateur.report import facts
from secateur.report.after_training import after_training
from secateur.report.content import AccuracyChange, Content, StageTime
from secateur.report.fields import Fields
from secateur.report.latencies import latencies, read_benchmark, runtime_accuracies
from secateur.report.quantization import quantization


def is_file_job(folder: Path) -> bool:
    """Whether a folder holds the result of a job on an ONNX file."""
    return (folder / RESULT_FILE).is_file()


def collect_file(folder: Path, title: str | None = None) -> Content:
    """The facts in a result; without a title, file and images name the page.

    raises    ArtifactError  with file and key, when the result is damaged
    """
    found = Fields(read_json(folder / RESULT_FILE), str(folder / RESULT_FILE))
    request, verb = found.fields("request"), found.text("verb")
    model, data = Path(found.text("model")).name, found.fields("calibration").text("data")
    measured = _benchmark(found, verb)
    benchmark = read_benchmark(measured)
    plans = found.rows("plans")
    dense, compressed = facts.censuses(found)
    return Content(
        title=title or f"{model} on {data}",
        model=model,
        data=data,
        command=found.text("command"),
        started=found.text("started"),
        finished=True,
        recipe=yaml.safe_dump({"stages": [request.fields("stage").value]}, sort_keys=False),
        machine=facts.machine_lines(found.fields("machine").value),
        stages=_stages(found, verb),
        technique=facts.technique(plans),
        accuracy=_accuracy(found),
        agreement=facts.agreement(found),
        after_training=after_training(found) if verb == "sparsify" else None,
        quantization=quantization(found, benchmark) if verb == "quantize" else None,
        runtime_accuracy=runtime_accuracies(benchmark),
        dense=dense,
        compressed=compressed,
        layers=facts.layers(compressed, plans, found),
        files=facts.files(found),
        latencies=latencies(benchmark, compressed) if verb == "sparsify" else (),
        layer_times=facts.layer_times(measured),
        advice=facts.advice(measured),
        load=benchmark.machine.load_average if benchmark else None,
        cpus=benchmark.machine.cpus if benchmark else None,
        checks=facts.checks(found),
    )


def _accuracy(found: Fields) -> AccuracyChange | None:
    dense, compressed = (
        facts.accuracy(found.fields(key)) if key in found else None for key in ("dense_accuracy", "accuracy")
    )
    return AccuracyChange(dense, compressed) if dense or compressed else None


def _benchmark(found: Fields, verb: str) -> Fields | None:
    """What the stage `benchmark` would have recorded."""
    if "benchmark" not in found:
        return None
    value: Mapping[str, Any] = found.fields("benchmark").value
    return Fields({"benchmark": value} if verb == "quantize" else dict(value), f"{found.where}: benchmark")


def _stages(found: Fields, verb: str) -> tuple[StageTime, ...]:
    """The one that there is, with its time where it was kept."""
    spent = found.fields("budget").optional_number("spent") if "budget" in found else None
    return (StageTime(verb, verb, spent),) if spent is not None else ()
