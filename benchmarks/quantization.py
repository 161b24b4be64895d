"""Quantization: what every runtime makes of a network in 8-bit integers, beside other quantizers' files.

    python benchmarks/quantization.py --data imagefolder:CIFAR --imagenet imagefolder:VAL --calibration images:CALIB \\
        --weights DIR [--rows "resnet20*"] [--images 2000]

CIFAR holds training and test images, VAL the labelled ImageNet images that accuracy is measured on, CALIB those that
calibrate; DIR the weights as NETWORK.safetensors. A row is one network and one method; all methods
start from the same float file and calibrate on the same images, and all files are run on the same test images:

    secateur ...            secateur quantize, with what stands behind it
    onnxruntime static      quantize_static of ONNX Runtime: QDQ, a step for each channel, extremes
    nncf                    nncf.quantize with its defaults
    4in-70, 1x4-70          sparse after training, then quantized; the float figures are those of the sparse network
    qat                     five epochs of training with the numbers

Rows that the table has are left alone without --again; runs in runs/quantization/ are resumed. The table goes to
benchmarks/results/quantization.md and .json, with CPU, versions and date.
"""

import argparse
import fnmatch
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from secateur import api, zoo
from secateur.export import export_onnx
from secateur.files import read_json, write_json, write_text
from secateur.measure import SIMULATED, Comparison, provenance, provenance_line
from secateur.pipeline import build_images
from secateur.pipeline.quantization.judge import judged
from secateur.posttraining.calibration import choose_images
from secateur.recipe import Data, build_recipe

HERE = Path(__file__).resolve().parent
RUNTIMES = ("onnxruntime", "openvino", "secateur")
# Top-1 points below the float network that the project allows itself.
GOALS = {
    "resnet20_cifar10": 0.2,
    "resnet56_cifar10": 0.2,
    "shufflenetv2_x0_5_cifar10": 0.8,
    "squeezenet1_1": 1.0,
    "mobilenet_v1_075_imagenet": 1.0,
}
CALIBRATING = 300


@dataclass(frozen=True)
class Row:
    """One line of the table.

    way      secateur, onnxruntime, nncf, or a run of several stages
    keys     of the stage `quantize`
    before   stages before it
    """

    network: str
    way: str
    keys: dict[str, Any] = field(default_factory=dict)
    before: tuple[dict[str, Any], ...] = ()
    goal: float | None = None


def _rows() -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for network, goal in GOALS.items():
        short = network.removesuffix("_cifar10").removesuffix("_imagenet")
        rows[f"{short} secateur"] = Row(network, "secateur", goal=goal)
        for name, keys in (
            ("percentile", {"observer": "percentile"}),
            ("entropy", {"observer": "entropy"}),
            ("columns", {"rounding": "columns"}),
            ("learned", {"rounding": "learned"}),
        ):
            rows[f"{short} secateur {name}"] = Row(network, "secateur", keys, goal=goal)
        rows[f"{short} onnxruntime static"] = Row(network, "onnxruntime")
        rows[f"{short} nncf"] = Row(network, "nncf")
        for pattern in ("4in", "1x4"):
            zeros = {"stage": "posttraining", "patterns": [pattern], "sparsity": 0.7, "tuning": {}, "budget": "15m"}
            rows[f"{short} {pattern}-70"] = Row(network, "run", before=(zeros,), goal=0.5)
        if network.endswith("cifar10"):
            training = {"epochs": 5, "learning_rate": 0.002}
            keys = {"method": "qat", "training": training, "distillation": {}}
            rows[f"{short} qat"] = Row(network, "run", keys, goal=0.1)
    return rows


ROWS = _rows()


def inputs(row: Row, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """(section model, section data, images that calibrate) of a recipe."""
    if row.network.endswith("cifar10"):
        weights, data, calibration = row.network, {"name": options.data}, None
    else:
        weights = f"{row.network.removesuffix('_imagenet')}_imagenet"
        # The labelled images were stored with 227 pixels a side.
        data, calibration = {"name": options.imagenet, "crop_pct": 224 / 227}, options.calibration
    return {"name": row.network, "weights": str(options.weights / f"{weights}.safetensors")}, data, calibration


def by_recipe(row: Row, folder: Path, options: argparse.Namespace) -> tuple[Comparison, dict[str, Any]]:
    """A run of `secateur compress` whose last stage quantizes."""
    model, data, calibration = inputs(row, options)
    images = {"images": CALIBRATING, "calibration": calibration, "judge_images": options.images}
    before = [stage | {"calibration": calibration} for stage in row.before]
    done = api.compress(
        recipe=build_recipe(
            {"model": model, "data": data, "stages": [*before, {"stage": "quantize", **images, **row.keys}]}
        ),
        out=folder,
        overwrite=True,
    )
    stage = next(stage for stage in done.record.stages if stage.kind == "quantize")
    floats = [layer["name"] for layer in stage.result["layers"] if layer["bits"] is None]
    sizes = stage.result["bytes"]
    more = {
        "minutes": stage.seconds / 60,
        "float layers": len(floats),
        "bytes": sizes["model.int8.onnx"],
        "small bytes": sizes["weights.int8.safetensors"],
        "float bytes": sizes["model.onnx"],
    }
    return Comparison.from_dict(stage.result["runtimes"]), more


def by_others(row: Row, folder: Path, options: argparse.Namespace) -> tuple[Comparison, dict[str, Any]]:
    """Another quantizer's file, from the same float file and images."""
    section, named, calibration = inputs(row, options)
    data = Data(**named)
    crop = {} if data.crop_pct is None else {"crop_pct": data.crop_pct}
    network = zoo.model(section["name"], weights=section["weights"], **crop).eval()
    preprocessing = zoo.preprocessing_of(network)
    folder.mkdir(parents=True, exist_ok=True)
    source = export_onnx(network, folder / "model.onnx", preprocessing.input_size)
    images = build_images(data)
    chosen = choose_images(images if calibration is None else build_images(Data(name=calibration)), CALIBRATING, 0)
    started = time.monotonic()

    def singles() -> Iterator[np.ndarray]:
        for batch in chosen.batches(preprocessing, 32):
            yield from batch.numpy()[:, None]

    file = OTHERS[row.way](source, folder / f"{row.way}.onnx", singles)
    minutes = (time.monotonic() - started) / 60
    found = judged(source, file, "int8", images, preprocessing, options.images, RUNTIMES)
    assert found is not None
    more = {"minutes": minutes, "float layers": None, "bytes": file.stat().st_size, "small bytes": None}
    return found, more | {"float bytes": source.stat().st_size}


def onnxruntime_static(source: Path, target: Path, images: Callable[[], Iterator[np.ndarray]]) -> Path:
    """ONNX Runtime's own: shapes inferred first, QDQ, unsigned activations, signed weights by channel, extremes."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = images()

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {"input": image}

    ready = target.with_suffix(".ready.onnx")
    quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
    quantize_static(
        str(ready),
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    ready.unlink()
    return target


def nncf_default(source: Path, target: Path, images: Callable[[], Iterator[np.ndarray]]) -> Path:
    """NNCF with its defaults."""
    import nncf

    dataset = nncf.Dataset(list(images()), lambda image: {"input": image})
    onnx.save(nncf.quantize(onnx.load(source), dataset, subset_size=CALIBRATING), target)
    return target


OTHERS: dict[str, Callable[[Path, Path, Callable[[], Iterator[np.ndarray]]], Path]] = {
    "onnxruntime": onnxruntime_static,
    "nncf": nncf_default,
}


def figures(row: Row, found: Comparison, more: dict[str, Any]) -> dict[str, Any]:
    """What one row came to."""

    def top1(subject: str, runtime: str) -> float | None:
        answers = found.row(subject, runtime)
        return answers.accuracy.top1 if answers is not None and answers.accuracy is not None else None

    def failed(runtime: str) -> str | None:
        answers = found.row("int8", runtime)
        return None if answers is None or answers.failure is None else answers.failure.message

    nearest = found.row("int8", "onnxruntime")
    return {
        "network": row.network,
        "images": found.rows[0].images,
        "float": top1("float", "onnxruntime"),
        "simulated": top1("int8", SIMULATED),
        **{runtime: top1("int8", runtime) for runtime in RUNTIMES},
        "failures": {runtime: failed(runtime) for runtime in RUNTIMES if failed(runtime)},
        "same class": None if nearest is None else nearest.same_class,
        "goal": row.goal,
        **more,
    }


def table(found: dict[str, dict[str, Any]], about: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "# Quantization",
        "",
        provenance_line(about),
        "",
        "Top-1 in percent: of the float file in ONNX Runtime, and of the 8-bit file in every runtime and simulated",
        "(float operators between rounding). All methods of a network start from the same float file, calibrate on",
        f"the same {CALIBRATING} images without labels, and are measured on the same test images. `goal`: points below",
        "float that the project allows itself; `size` is of our small file, or of the other quantizer's, in percent",
        "of the float file; `minutes` on a shared machine.",
        "",
        "| row | images | float | ONNX Runtime | OpenVINO | Secateur | simulated | same class | goal | size | min |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]

    def number(value: float | None, form: str = ".2f") -> str:
        return "" if value is None else format(value, form)

    for name, row in found.items():
        share = 100 * (row["small bytes"] or row["bytes"]) / row["float bytes"]
        runtimes = (number(row[runtime]) or "failed" for runtime in RUNTIMES)
        cells = (
            name, str(row["images"]), number(row["float"]), *runtimes, number(row["simulated"]),
            number(row["same class"]), number(row["goal"], ".1f"), f"{share:.1f} %", number(row["minutes"], ".1f"),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="imagefolder of CIFAR-10")
    parser.add_argument("--imagenet", help="labelled ImageNet images, as data")
    parser.add_argument("--calibration", help="ImageNet images that calibrate, as data")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--rows", default="*", help="globs, comma-separated")
    parser.add_argument("--images", type=int, default=10000, help="test images at most")
    parser.add_argument("--again", action="store_true", help="measure rows anew that the table has already")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/quantization"))
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    about = provenance("secateur", "torch", "onnxruntime", "openvino", "nncf")
    kept = options.results / "quantization.json"
    found: dict[str, dict[str, Any]] = read_json(kept)["rows"] if kept.is_file() else {}
    for name, row in ROWS.items():
        if not any(fnmatch.fnmatch(name, glob.strip()) for glob in options.rows.split(",")):
            continue
        if name in found and not options.again:
            continue
        started = time.monotonic()
        way = by_others if row.way in OTHERS else by_recipe
        found[name] = figures(row, *way(row, options.runs / name.replace(" ", "-"), options))
        print(f"{name}: {found[name]}, {time.monotonic() - started:.0f} s", flush=True)
        found = {each: found[each] for each in ROWS if each in found}
        write_json(kept, {"about": about, "rows": found})
        write_text(options.results / "quantization.md", table(found, about))


if __name__ == "__main__":
    main()
