"""Top-1 and top-5 of any runtime, on the same images."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from secateur.errors import MeasureError
from secateur.measure.runtime import Images, Runner


@dataclass(frozen=True)
class RuntimeAccuracy:
    """Percent of `images` whose label is the best, or among the five best, of the logits."""

    top1: float
    top5: float
    images: int

    def __str__(self) -> str:
        return f"top-1 {self.top1:.2f} %, top-5 {self.top5:.2f} % of {self.images} images"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def accuracy_of(run: Runner, batches: Iterable[tuple[Images, np.ndarray]], batch: int | None = None) -> RuntimeAccuracy:
    """Accuracy of `run` on pairs (images, labels).

    batch     feed exactly so many images at a time, the last ones filled up with copies that are not counted;
              None feeds the batches as they come
    raises    MeasureError  without images, or when the outputs are not (images, classes) or not numbers
    """
    top1 = top5 = images = 0
    for pixels, labels in batches:
        logits = run_all(run, pixels, batch)
        if logits.ndim != 2 or len(logits) != len(labels):
            raise MeasureError(f"the outputs have shape {logits.shape}, expected ({len(labels)}, classes).")
        if not np.all(np.isfinite(logits)):
            raise MeasureError("the outputs hold values that are not numbers.")
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
            raise MeasureError(f"labels up to {int(labels.max())} do not fit a network of {logits.shape[1]} classes.")
        rank = label_rank(logits, labels)
        top1 += int(np.count_nonzero(rank < 1))
        top5 += int(np.count_nonzero(rank < 5))
        images += len(labels)
    if images == 0:
        raise MeasureError("accuracy cannot be measured without images.")
    return RuntimeAccuracy(100.0 * top1 / images, 100.0 * top5 / images, images)


def run_all(run: Runner, images: Images, batch: int | None) -> np.ndarray:
    """Logits of all images, fed `batch` at a time."""
    if batch is None or batch == len(images):
        return run(images)
    outputs = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        outputs.append(run(fill(part, batch))[: len(part)])
    return np.concatenate(outputs)


def fill(images: Images, count: int) -> Images:
    """Exactly `count` images: the first ones, repeated in turn when there are fewer."""
    return np.ascontiguousarray(images[np.arange(count) % len(images)], dtype=np.float32)


def label_rank(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Place of the label among the logits, from 0; of equal logits the lower class number is first."""
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1])[None, :] < labels[:, None]
    return np.count_nonzero((logits > own) | ((logits == own) & earlier), axis=1)
