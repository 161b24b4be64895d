"""Pretrained networks on real images: the engine predicts what ONNX Runtime predicts.

    python benchmarks/engine/accuracy.py --shared ../shared --images DIR

`--shared` holds data/onnx/*.onnx, tools/unpack_data.py and the images in sheets; `--images` is the folder that
unpack_data.py wrote, or will be made by it. Every network sees all its test images in both engines. The table goes to
benchmarks/results/engine_accuracy.md and .json; rows that are there for the same engine, file and images are kept.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from secateur import zoo
from secateur.engine.session import compile_onnx
from secateur.files import write_json, write_text
from secateur.measure import provenance, provenance_line
from secateur.measure.onnxruntime_runtime import open_session
from secateur.zoo.preprocessing import CIFAR10_MEAN, CIFAR10_STD, IMAGENET_MEAN, IMAGENET_STD

HERE = Path(__file__).resolve().parent
CIFAR, IMAGENET = "cifar10", "imagenet-val1300"
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Subject:
    """A published network: which images it sees, how they are prepared, and its published top-1 on them."""

    images: str
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    top1: float
    channels: str = "rgb"
    batch: int = 50

    @property
    def stored(self) -> int:
        """Pixels a side of the images on disk."""
        return 32 if self.images == CIFAR else 227

    @property
    def edge(self) -> int:
        """Pixels left out above and left of the middle, as it was where the published top-1 comes from."""
        return (self.stored - self.side) // 2

    @property
    def preprocessing(self) -> zoo.Preprocessing:
        """Of whole images."""
        return zoo.Preprocessing((3, self.stored, self.stored), self.mean, self.std, "bilinear", 1.0, self.channels)


def _bytes(*means: float) -> tuple[float, ...]:
    return tuple(mean / 255 for mean in means)


SUBJECTS = {
    "resnet20_cifar10": Subject(CIFAR, 32, IMAGENET_MEAN, IMAGENET_STD, 91.73),
    "resnet56_cifar10": Subject(CIFAR, 32, IMAGENET_MEAN, IMAGENET_STD, 93.39),
    "resnet20b_cifar10": Subject(CIFAR, 32, CIFAR10_MEAN, CIFAR10_STD, 92.62),
    "shufflenetv2_x0_5_cifar10": Subject(CIFAR, 32, CIFAR10_MEAN, CIFAR10_STD, 90.64),
    "resnet20_distiller_dense_cifar10": Subject(CIFAR, 32, HALF, HALF, 91.71),
    "resnet20_distiller_channel_pruned_cifar10": Subject(CIFAR, 32, HALF, HALF, 91.74),
    "mobilenet_v1_075_imagenet": Subject(IMAGENET, 224, HALF, HALF, 78.08),
    "mobilenet_v1_025_imagenet": Subject(IMAGENET, 224, IMAGENET_MEAN, IMAGENET_STD, 44.69),
    "mobilenet_v2_100_imagenet": Subject(IMAGENET, 224, HALF, HALF, 79.77),
    "squeezenet1_1_imagenet": Subject(IMAGENET, 224, IMAGENET_MEAN, IMAGENET_STD, 68.23),
    "squeezenet1_0_deepcompressed_imagenet": Subject(
        IMAGENET, 224, _bytes(104, 117, 123), _bytes(1, 1, 1), 71.77, "bgr"
    ),
}

Run = Callable[[np.ndarray], np.ndarray]


@dataclass
class Agreement:
    """What two engines said about the same images.

    top1, peer_top1    percent of right answers here and in ONNX Runtime
    others             images of which the predictions differ
    difference         largest difference of a logit, as a share of the largest logit
    """

    images: int = 0
    right: int = 0
    peer_right: int = 0
    others: int = 0
    difference: float = 0.0

    def add(self, found: np.ndarray, wanted: np.ndarray, labels: np.ndarray) -> None:
        """Count one batch."""
        found, wanted = found.reshape(len(labels), -1), wanted.reshape(len(labels), -1)
        ours, theirs = found.argmax(1), wanted.argmax(1)
        self.images += len(labels)
        self.right += int((ours == labels).sum())
        self.peer_right += int((theirs == labels).sum())
        self.others += int((ours != theirs).sum())
        self.difference = max(self.difference, float(np.abs(found - wanted).max() / np.abs(wanted).max()))


def batches(data: zoo.ImageData, subject: Subject, limit: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Prepared test images and labels."""
    middle = slice(subject.edge, subject.edge + subject.side)
    for images, labels in zoo.loader(data, "test", subject.preprocessing, batch_size=subject.batch, limit=limit):
        yield np.ascontiguousarray(images[:, :, middle, middle].numpy()), labels.numpy()


def compare(ours: Run, theirs: Run, pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> Agreement:
    """Run both engines on all images."""
    agreement = Agreement()
    for images, labels in pairs:
        agreement.add(ours(images), theirs(images), labels)
    return agreement


def engines(file: Path, batch: int, threads: int) -> tuple[Run, Run, dict[str, int]]:
    """Ours, ONNX Runtime's, and how many layers are computed in which format here."""
    session = compile_onnx(file, threads=threads, batch=batch)
    peer = open_session(str(file), threads)
    name = peer.get_inputs()[0].name
    formats: dict[str, int] = {}
    for layer in session.report().layers:
        kind = layer.choice.format if layer.choice else layer.kernel.partition("_")[2].partition("_")[0]
        formats[kind] = formats.get(kind, 0) + 1
    return (
        lambda images: next(iter(session.run(images).values())),
        lambda images: np.asarray(peer.run(None, {name: images})[0]),
        formats,
    )


def row_of(name: str, file: Path, images: Path, threads: int, limit: int | None) -> dict[str, Any]:
    """The figures of one network."""
    subject = SUBJECTS[name]
    ours, theirs, formats = engines(file, subject.batch, threads)
    started = time.perf_counter()
    data = zoo.data(f"imagefolder:{images / subject.images}")
    agreement = compare(ours, theirs, batches(data, subject, limit))
    return {
        "images": agreement.images,
        "top-1": 100 * agreement.right / agreement.images,
        "ONNX Runtime top-1": 100 * agreement.peer_right / agreement.images,
        "published top-1": subject.top1,
        "other predictions": agreement.others,
        "largest difference": agreement.difference,
        "layers": formats,
        "seconds": time.perf_counter() - started,
    }


def table(rows: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "# Pretrained networks on real images: the engine and ONNX Runtime",
        "",
        provenance_line(about),
        "",
        "Published: top-1 that was measured with ONNX Runtime on the same files and images. Difference: largest "
        "difference of a logit between the engines, as a share of the largest logit of its batch.",
        "",
        "| network | images | top-1 | ONNX Runtime | published | other predictions | difference | layers |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for name, row in rows.items():
        layers = ", ".join(f"{count} {kind}" for kind, count in row["layers"].items())
        lines.append(
            f"| {name} | {row['images']:,} | {row['top-1']:.2f} % | {row['ONNX Runtime top-1']:.2f} % "
            f"| {row['published top-1']:.2f} % | {row['other predictions']} | {row['largest difference']:.1e} "
            f"| {layers} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--images", type=Path, default=Path("runs/images"))
    parser.add_argument("--models", default=",".join(SUBJECTS), help="comma-separated")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, help="only so many images of each network")
    parser.add_argument("--again", action="store_true", help="run networks again that have a row")
    parser.add_argument("--results", type=Path, default=HERE.parent / "results")
    options = parser.parse_args()
    if not (options.images / CIFAR).is_dir():
        subprocess.run([sys.executable, options.shared / "tools" / "unpack_data.py", options.images], check=True)
    kept = options.results / "engine_accuracy.json"
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))["rows"] if kept.is_file() else {}
    about = provenance("secateur", "onnxruntime", "numpy")
    for name in options.models.split(","):
        file = options.shared / "data" / "onnx" / f"{name}.onnx"
        key = {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "limit": options.limit, "cpu": about["cpu"]}
        if name in found and found[name]["key"] == key and not options.again:
            continue
        found[name] = row_of(name, file, options.images, options.threads, options.limit) | {"key": key}
        rows = {name: found[name] for name in SUBJECTS if name in found}
        write_json(kept, {"about": about, "rows": rows})
        write_text(options.results / "engine_accuracy.md", table(rows, about))
        print(name, json.dumps(found[name]), flush=True)
    differ = [
        name for name, row in found.items()
        if row["other predictions"] or abs(row["top-1"] - row["ONNX Runtime top-1"]) > 0
    ]  # fmt: skip
    print(f"networks with other predictions: {', '.join(differ) or 'none'}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
