"""A training of seconds that exercises everything at once; the tests run it here, or as a program to kill.

    python job.py FOLDER [--norm] [--sparse] [--teacher] [--pause SECONDS] [--dropout SHARE] [--stop STEP]

writes FOLDER/final.RANK.safetensors beside what `fit` writes.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from secateur.recipe import Distillation, Training
from secateur.sparsity import AgpIterations, Sparsifier, plan_sparsity
from secateur.training import distributed, fit
from secateur.zoo import ImageData, Preprocessing
from secateur.zoo.image_data import ArrayImages

CLASSES, SIDE = 6, 8
PREPROCESSING = Preprocessing((3, SIDE, SIDE), (0.5,) * 3, (0.25,) * 3)


def images(train: int = 96, test: int = 37) -> ImageData:
    """Noise with a brighter row where the class says: learnable in a few steps."""
    random = np.random.default_rng(0)

    def some(count: int) -> ArrayImages:
        labels = random.integers(0, CLASSES, count)
        pixels = random.integers(0, 120, (count, SIDE, SIDE, 3), dtype=np.uint8)
        pixels[np.arange(count), labels + 1] += 120
        return ArrayImages(pixels, labels)

    return ImageData("rows", some(train), some(test), tuple(f"row {i}" for i in range(CLASSES)), flip=False)


def network(norm: bool = True, dropout: float = 0.1, width: int = 8, pause: float = 0.0) -> nn.Module:
    """Two convolutions and a classifier, the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.BatchNorm2d(width) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
            nn.BatchNorm2d(2 * width) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * width * (SIDE // 2) ** 2, CLASSES),
        )
    if pause:
        model[0].register_forward_hook(lambda *_: time.sleep(pause))
    return model


def settings(**changes: object) -> Training:
    """Three epochs of twelve batches, a checkpoint after every one."""
    values: dict[str, object] = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "checkpoint_seconds": 1e-9}
    return Training.model_validate(values | changes)


def sparsifier(model: nn.Module, steps: int = 36) -> Sparsifier:
    """1x4 blocks up to 60 %, masks chosen every third step in the middle of the run, at random."""
    plan = plan_sparsity(model, 0.6, "1x4", "random", base="selected")
    return Sparsifier(model, plan, AgpIterations(steps, 0.6, 0.1, 0.7, every=3), seed=5)


class StoppedError(Exception):
    """Raised in the middle of a training."""


def stop_before_step(model: nn.Module, step: int) -> None:
    """Let `model` raise StoppedError when it is trained on batch number `step`, from 0 over the whole run."""
    calls = 0

    def count(module: nn.Module, *_: object) -> None:
        nonlocal calls
        calls += module.training
        if calls > step:
            raise StoppedError

    model[0].register_forward_hook(count)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--norm", action="store_true")
    parser.add_argument("--sparse", action="store_true")
    parser.add_argument("--teacher", action="store_true")
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--stop", type=int)
    wish = parser.parse_args()
    model = network(wish.norm, wish.dropout, pause=wish.pause)
    if wish.stop is not None:
        stop_before_step(model, wish.stop)
    fit(
        model,
        images(),
        settings(),
        folder=wish.folder,
        preprocessing=PREPROCESSING,
        distillation=Distillation() if wish.teacher else None,
        sparsifier=sparsifier(model) if wish.sparse else None,
    )
    save_file(model.state_dict(), wish.folder / f"final.{distributed.rank()}.safetensors")
    distributed.stop()


if __name__ == "__main__":
    main()
