"""What happened, epoch by epoch: the numbers behind training curves."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from secateur.errors import TrainingError


@dataclass(frozen=True)
class Row:
    """One epoch.

    epoch             counted from 0
    learning_rate     of the epoch's last step
    loss              mean over the training images of what was descended, smoothing and teacher included
    train_accuracy    percent top-1 of the training images as seen: augmented, while the weights moved
    top1, top5        percent of the test images after the epoch; None where it was not evaluated
    test_loss         mean cross-entropy of the test images, unsmoothed; None likewise, and if not finite
    sparsity          fraction of zeros among all convolution and linear weights after the epoch
    seconds           spent on training and evaluating; the only number that differs between equal runs
    """

    epoch: int
    learning_rate: float
    loss: float
    train_accuracy: float
    top1: float | None
    top5: float | None
    test_loss: float | None
    sparsity: float
    seconds: float


@dataclass(frozen=True)
class History:
    """All epochs of one training, oldest first."""

    rows: tuple[Row, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def last(self) -> Row:
        """The last epoch. raises TrainingError when there was none."""
        if not self.rows:
            raise TrainingError("a training of 0 epochs has no last epoch.")
        return self.rows[-1]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"rows": [asdict(row) for row in self.rows]}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "History":
        """The inverse of `to_dict`. raises TrainingError when the values are not a history."""
        try:
            return History(tuple(_row(row) for row in values["rows"]))
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"this is not a training history: {error!r}.") from error

    def __str__(self) -> str:
        lines = ["epoch  learning rate      loss  train %   top-1   top-5  test loss  sparsity  seconds"]
        lines += [
            f"{row.epoch:5d}  {row.learning_rate:13.6g}  {row.loss:8.4f}  {row.train_accuracy:7.2f}  "
            f"{_cell(row.top1, 6, 2)}  {_cell(row.top5, 6, 2)}  {_cell(row.test_loss, 9, 4)}  "
            f"{row.sparsity:8.4f}  {row.seconds:7.1f}"
            for row in self.rows
        ]
        return "\n".join([*lines, "sparsity: zeros among all convolution and linear weights"])


def finite(value: float) -> float | None:
    """The value, or None where it is no number that JSON and a curve can hold."""
    return value if math.isfinite(value) else None


def _row(values: Mapping[str, Any]) -> Row:
    if set(values) != {field.name for field in fields(Row)}:
        raise ValueError(f"a row has the keys {sorted(values)}")
    if any(value is not None and not isinstance(value, int | float) for value in values.values()):
        raise ValueError("a row holds something that is not a number")
    return Row(**values)


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"
