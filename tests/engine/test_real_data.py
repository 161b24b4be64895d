"""Pretrained networks on a few real images: what ONNX Runtime predicts, layer formats as they should be.

All images, and the accuracy on them: benchmarks/engine/accuracy.py, which also says how images are prepared.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks" / "engine"))
from accuracy import CIFAR, SUBJECTS, Agreement, Subject, engines

IMAGES = 24


def few_images(data: Path, subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Prepared images and labels."""
    if subject.images == CIFAR:
        labels = np.load(data / "cifar10" / "labels.npz")["test_y"][:IMAGES]
        with Image.open(data / "cifar10" / "test_00.webp") as sheet:
            pixels = np.asarray(sheet.convert("RGB").crop((0, 0, 50 * 32, 32)))
        tiles = pixels.reshape(32, 50, 32, 3).transpose(1, 0, 2, 3)[:IMAGES]
    else:
        folder = data / "imagenet_val1300"
        lines = [line.split() for line in (folder / "labels.txt").read_text().splitlines()[:IMAGES]]
        labels = np.array([int(label) for _, label in lines])
        box = (subject.edge, subject.edge, subject.edge + subject.side, subject.edge + subject.side)
        tiles = np.stack([np.asarray(Image.open(folder / file).convert("RGB").crop(box)) for file, _ in lines])
    if subject.channels == "bgr":
        tiles = tiles[..., ::-1]
    shape = (1, 3, 1, 1)
    mean, std = (np.array(each, np.float32).reshape(shape) for each in (subject.mean, subject.std))
    images = (tiles.transpose(0, 3, 1, 2).astype(np.float32) / 255 - mean) / std
    return np.ascontiguousarray(images, np.float32), labels


@pytest.mark.parametrize("name", SUBJECTS)
def test_predictions_are_those_of_onnx_runtime(shared_data: Path, name: str) -> None:
    images, labels = few_images(shared_data, SUBJECTS[name])
    ours, theirs, formats = engines(shared_data / "onnx" / f"{name}.onnx", len(images), 2)
    agreement = Agreement()
    agreement.add(ours(images), theirs(images), labels)
    assert agreement.others == 0
    assert agreement.difference <= 1e-5
    # A network whose images were prepared wrongly would guess.
    assert agreement.right >= 0.3 * len(images)
    if "deepcompressed" in name:
        assert formats.get("panel", 0) + formats.get("rows", 0) >= 5, f"two thirds of its weights are zero: {formats}"
