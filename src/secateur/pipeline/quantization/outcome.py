"""What quantization has made, of a torch network and of an ONNX file alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from secateur.errors import ArtifactError
from secateur.graph.table import dims, text_table
from secateur.measure import BenchmarkResult, Comparison
from secateur.pipeline.quantization.carry_out import Made, other_floats
from secateur.pipeline.record import RunRecord
from secateur.posttraining.calibration import Calibration
from secateur.recipe import QuantizeStage

NO_LABELS = "no labels, so no accuracy was measured; labelled test images (--data) give it"


def result_of(
    stage: QuantizeStage,
    made: Made,
    calibration: Calibration,
    runtimes: Comparison | None,
    files: Sequence[Path],
) -> dict[str, Any]:
    """What a stage `quantize` records, as plain JSON."""
    return {
        "numbers": stage.numbers,
        "method": stage.method,
        "layers": made.layers(),
        "floats": {} if made.table is None else dict(other_floats(made.float_model, made.table)),
        "calibration": calibration.to_dict(),
        "runtimes": None if runtimes is None else runtimes.to_dict(),
        "bytes": {path.name: path.stat().st_size for path in files},
        **made.report,
    }


@dataclass(frozen=True)
class QuantizedNetwork:
    """The result in a folder; printed, every layer's bits and what every runtime makes of the file.

    numbers     int8, fp16 or bf16
    layers      name, kind, shape, bits, activation_bits, steps, reason (why it stays float), as the stage recorded them
    floats      other operators that stay float -> why
    runtimes    accuracy and nearness of the float and the quantized file in every runtime
    benchmark   their times; None where they were not measured
    bytes       name of a file -> its size
    """

    folder: Path
    numbers: str
    layers: tuple[dict[str, Any], ...]
    floats: dict[str, str] = field(default_factory=dict[str, str])
    runtimes: Comparison | None = None
    benchmark: BenchmarkResult | None = None
    bytes: dict[str, int] = field(default_factory=dict[str, int])
    notes: tuple[str, ...] = ()
    record: RunRecord | None = field(default=None, repr=False)
    network: nn.Module | None = field(default=None, repr=False)

    def __str__(self) -> str:
        lines = [layers_text(self.layers)] if self.layers else []
        lines += [f"{name} stays float: {reason}" for name, reason in self.floats.items()]
        if self.runtimes is not None:
            lines += ["", str(self.runtimes)]
        if self.benchmark is not None:
            lines += ["", str(self.benchmark)]
        if self.bytes:
            lines += ["", ", ".join(f"{name} {size:,} bytes" for name, size in self.bytes.items())]
        return "\n".join([*lines, *self.notes]).strip()

    @classmethod
    def from_dict(cls, folder: Path, value: Any, **more: Any) -> "QuantizedNetwork":
        """From plain JSON. raises ArtifactError when it is damaged"""
        try:
            benchmark = value.get("benchmark")
            return cls(
                folder,
                str(value["numbers"]),
                tuple(dict(row) for row in value["layers"]),
                {str(name): str(reason) for name, reason in value["floats"].items()},
                None if value["runtimes"] is None else Comparison.from_dict(value["runtimes"]),
                None if benchmark is None else BenchmarkResult.from_dict(benchmark),
                {str(name): int(size) for name, size in value["bytes"].items()},
                tuple(map(str, value.get("notes", ()))),
                **more,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{folder}: the result is damaged: {type(error).__name__} {error}.") from error


def layers_text(layers: Sequence[dict[str, Any]]) -> str:
    """A table of the layers."""
    headers = ("layer", "kind", "shape", "bits", "inputs", "SNR dB", "remark")
    rows = [
        (
            str(row["name"]),
            str(row["kind"]),
            dims(row["shape"]),
            "float" if row["bits"] is None else str(row["bits"]),
            "float" if row["activation_bits"] is None or row["bits"] is None else str(row["activation_bits"]),
            "-" if row["noise"] is None else f"{row['noise']:.1f}",
            str(row["reason"] or ""),
        )
        for row in layers
    ]
    return text_table(headers, rows, left=3)


def quantized_by(record: RunRecord, network: nn.Module) -> QuantizedNetwork:
    """What a run with a stage `quantize` made. raises ArtifactError for another run, or a damaged one"""
    stages = record.results("quantize")
    if not stages:
        raise ArtifactError(f"{record.folder}: is no run of quantization.")
    value = dict(stages[-1])
    measured = record.results("benchmark")
    value["benchmark"] = measured[-1]["benchmark"] if measured else None
    if not record.results("evaluate"):
        value["notes"] = [NO_LABELS]
    return QuantizedNetwork.from_dict(record.folder, value, record=record, network=network)
