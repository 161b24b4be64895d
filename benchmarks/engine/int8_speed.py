"""How fast is the engine on 8-bit networks, against the faster of ONNX Runtime and OpenVINO with the same one dense?

    python benchmarks/engine/int8_speed.py --models resnet50,mobilenet_v1 --sparsity 0,80 --tune
    python benchmarks/engine/int8_speed.py --models resnet50 --patterns 1x4,4-in,4x4-in --sparsity 80 --against float32

Networks have random weights (planted.py) and are quantized by ONNX Runtime's quantizer: Q/DQ operators, unsigned
activations, weights signed with a scale for each output channel. All engines get the same file, the dense ones without
zeros. Each case is measured in a process of its own (speed_case.py), with all engines in it, interleaved. One thread is
measured by the time that the process computes, two by the wall. Against float32 the dense engines compute the network
as it was before it was quantized. The result goes to benchmarks/results/engine_int8.md
and .json.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from planted import BLOCKS, IN_BLOCKS, plant
from speed import AGAINST, Case, Files, cases, child

from secateur.files import write_json, write_text
from secateur.measure import provenance, provenance_line

HERE = Path(__file__).resolve().parent
# Dense: within 15 % of the faster one. Wanted of ResNet-50 are 3.5 times dense int8 and 12 times dense float32.
LEAST = 1 / 1.15
GOALS: Mapping[tuple[str, str], float] = {
    ("resnet50", "int8"): 2.0,
    ("resnet50", "float32"): 7.0,
    ("mobilenet_v1", "int8"): 1.4,
}
# Of the largest output: engines round sums of two branches in their own order, one step away now and then.
TOLERANCE = 0.05
IMAGES = 4


class QuantizedFiles:
    """Quantized ONNX files of cases, made when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self._floats = Files(folder)
        self._folder = folder

    def dense(self, model: str, numbers: str) -> Path:
        """The network without zeros, in int8 or float32."""
        return self._floats.dense(model) if numbers == "float32" else self.sparse(Case(model, "dense", 0, 1, 1))

    def sparse(self, case: Case) -> Path:
        """The network of a case."""
        file = self._folder / f"{case.model}_{case.pattern}_{case.percent}_int8.onnx"
        if not file.is_file():
            model = onnx.load(self._floats.dense(case.model))
            quantize(plant(model, case.pattern, case.percent / 100) if case.percent else model, file)
        return file


def quantize(model: onnx.ModelProto, file: Path) -> None:
    """Write a network in 8 bits, calibrated on random images."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    given = model.graph.input[0]
    size = [1, *(side.dim_value for side in given.type.tensor_type.shape.dim[1:])]

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self._rng, self._left = np.random.default_rng(0), IMAGES

        def get_next(self) -> dict[str, np.ndarray] | None:
            self._left -= 1
            return {given.name: self._rng.standard_normal(size, np.float32)} if self._left >= 0 else None

    prepared = file.with_suffix(".prepared.onnx")
    # A model in memory would lose the weights that its shape inference reads (onnxruntime 1.31).
    onnx.save(model, prepared)
    quant_pre_process(str(prepared), str(prepared), skip_symbolic_shape=True)
    numbers = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
    quantize_static(prepared, file, Images(), quant_format=QuantFormat.QDQ, **numbers)
    prepared.unlink()


def measured(case: Case, files: QuantizedFiles, options: argparse.Namespace) -> dict[str, Any]:
    """Times of one case."""
    clock = "cpu" if case.threads == 1 else "wall"
    arguments = ["times", str(files.dense(case.model, options.against)), str(files.sparse(case)), "--against", *AGAINST]
    arguments += ["--seconds", str(options.seconds), "--threads", str(case.threads), "--batch", str(case.batch)]
    arguments += ["--clock", clock, "--tolerance", str(TOLERANCE), *["--tune"] * options.tune]
    return child(*arguments)


def goal(case: Case, against: str) -> float:
    """The least ratio of a case: those of blocks at 80 % are higher."""
    blocks = case.pattern in (*IN_BLOCKS, *BLOCKS) and case.percent == 80
    return GOALS.get((case.model, against), LEAST) if blocks else LEAST


def table(found: Mapping[str, Mapping[str, Any]], against: str) -> Iterator[str]:
    """Lines of the result, of the rows that were measured against dense engines in int8 or float32."""
    yield "| network | threads | ms | dense ONNX Runtime | OpenVINO | ratio (quartiles) | goal | | rounds |"
    yield "|---|--:|--:|--:|--:|--:|--:|---|--:|"
    rows = [row for row in found.values() if row["against"] == against]
    for row in sorted(rows, key=lambda row: (row["case"][3], row["case"][1], row["case"][2])):
        case = Case(*row["case"])
        if "failed" in row:
            yield f"| {case.network} | {case.threads} | failed: {row['failed']} | | | | | | |"
            continue
        for name in (name for name in row["ms"] if name.startswith("secateur")):
            ratio, here = row["ratios"][name], row["ms"][name]
            peers = " | ".join(f"{row['ms'][peer]['median']:.2f}" for peer in AGAINST)
            verdict = ("yes" if ratio["median"] >= goal(case, against) else "NO") + ("" if row["agrees"] else ", WRONG")
            yield (
                f"| {case.network}{name.removeprefix('secateur')} | {case.threads} | {here['median']:.2f} "
                f"(min {here['min']:.2f}) | {peers} | **{ratio['median']:.2f}x** ({ratio['low']:.2f} to "
                f"{ratio['high']:.2f}) | {goal(case, against):.2f}x | {verdict} | {row['counted']} of {row['rounds']} |"
            )


def report(found: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    return "\n".join(
        (
            "# Speed of the engine on 8-bit networks",
            "",
            provenance_line(about),
            "",
            "Random weights; every convolution loses the same share of its weights at random places, except the first; "
            "linear layers stay dense. 1x4: blocks of 4 neighbouring outputs at one position (1x4-fine); 4-in: of 4 "
            "input channels of one output; 4x4-in: those of 4 neighbouring outputs. Quantized by ONNX Runtime: Q/DQ, "
            "unsigned activations, a scale for each output channel. Ratio: time of the faster dense engine with 8 bits "
            "/ time here, from rounds in which all engines ran in one process, in changing order; median and "
            "quartiles. Batch 1. One thread: time that the process computed; two: of the wall. For blocks at 80 % 3.5x "
            "of int8 and 12x of float32 are wanted. Ratios count: the machine is shared. Networks pruned at random "
            "predict nothing.",
            "",
            *table(found, "int8"),
            "",
            "Against the faster dense engine in float32:",
            "",
            *table(found, "float32"),
            "",
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet50")
    parser.add_argument("--patterns", default="1x4,4-in,4x4-in,unstructured")
    parser.add_argument("--sparsity", default="0,80", help="percent")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing, for each case")
    parser.add_argument("--against", choices=("int8", "float32"), default="int8", help="numbers of the dense engines")
    parser.add_argument("--tune", action="store_true", help="also time the tuned engine")
    parser.add_argument("--runs", type=Path, default=Path("runs/engine"))
    parser.add_argument("--results", type=Path, default=HERE.parent / "results")
    options = parser.parse_args()
    options.batch = "1"

    files, result = QuantizedFiles(options.runs / "onnx"), options.results / "engine_int8.json"
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))["cases"] if result.is_file() else {}
    about = provenance("secateur", "onnxruntime", "openvino", "llvmlite", "numpy")
    for case in cases(options):
        row = measured(case, files, options)
        facts = {"against": options.against, "case": [case.model, case.pattern, case.percent, case.threads, case.batch]}
        found[f"{case.key} against {options.against}"] = row | facts
        write_json(result, {"about": about, "cases": found})
        write_text(result.with_suffix(".md"), report(found, about))
        said = (
            row.get("failed") or f"{row['ratios']['secateur']['median']:.2f}x, goal {goal(case, options.against):.2f}x"
        )
        print(f"{case.key}: {said}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
