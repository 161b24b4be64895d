"""What the calibration images show of one value: all that observers choose ranges from, gathered in one pass.

mean, std       of all numbers, batch means and squares joined as Chan, Golub & LeVeque 1983 do
b               mean |x - mean|, from the histogram
avg_min, _max   means over images of each image's extremes
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.errors import QuantizationError
from secateur.quantization.histogram import Histogram


@dataclass(frozen=True)
class Statistics:
    """Numbers of one value; the names are Distiller's.

    min, max            of all numbers
    avg_min, avg_max    means over the images of each one's extremes
    mean, std, b        of all numbers; b is the mean distance from the mean
    """

    min: float
    max: float
    avg_min: float
    avg_max: float
    mean: float
    std: float
    b: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


class Seen:
    """What has been seen of one value.

    histogram    of all numbers
    extremes     (low, high) of every batch, in order
    """

    def __init__(self, statistics: Statistics | None = None) -> None:
        """`statistics` stand for images that are not here; there is no histogram then."""
        self.histogram = Histogram()
        self.extremes: list[tuple[float, float]] = []
        self._given = statistics
        self._images = self._count = 0
        self._low_sum = self._high_sum = 0.0
        self._mean = self._squares = 0.0

    @property
    def has_histogram(self) -> bool:
        return self._given is None

    @property
    def images(self) -> int:
        return self._images

    def add(self, batch: NDArray[Any], *, continued: bool = False) -> None:
        """Take a batch into account, one row or map for each image on the first axis.

        continued    these are further images of the batch before
        raises       QuantizationError  NaN or infinity
        """
        if self._given is not None:
            raise QuantizationError("saved statistics cannot be added to; calibrate again with all images.")
        rows = np.asarray(batch, np.float32)
        rows = rows.reshape(len(rows), -1) if rows.ndim else rows.reshape(1, 1)
        if not rows.size:
            return
        lows, highs = rows.min(axis=1), rows.max(axis=1)
        low, high = float(lows.min()), float(highs.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise QuantizationError("holds NaN or infinity")
        if continued and self.extremes:
            before_low, before_high = self.extremes.pop()
            self.extremes.append((min(low, before_low), max(high, before_high)))
        else:
            self.extremes.append((low, high))
        self._images += len(rows)
        self._low_sum += float(lows.sum(dtype=np.float64))
        self._high_sum += float(highs.sum(dtype=np.float64))
        self.histogram.add(rows, max(-low, high, 0.0))
        mean = float(rows.mean(dtype=np.float64))
        centred = (rows - np.float32(mean)).reshape(-1)
        with np.errstate(over="ignore"):
            squares = float(np.dot(centred, centred))
        if not np.isfinite(squares):
            squares = float(np.square(centred, dtype=np.float64).sum())
        # Of the mean as float32, which is not quite the mean.
        squares -= rows.size * (mean - float(np.float32(mean))) ** 2
        count, distance = self._count + rows.size, mean - self._mean
        self._squares += squares + distance**2 * self._count * rows.size / count
        self._mean += distance * rows.size / count
        self._count = count

    def statistics(self) -> Statistics:
        """raises QuantizationError when nothing has been seen."""
        if self._given is not None:
            return self._given
        if not self._count:
            raise QuantizationError("nothing has been seen")
        return Statistics(
            min(low for low, _ in self.extremes),
            max(high for _, high in self.extremes),
            self._low_sum / self._images,
            self._high_sum / self._images,
            self._mean,
            float(np.sqrt(max(self._squares, 0.0) / self._count)),
            self._mean_distance(),
        )

    def _mean_distance(self) -> float:
        edges = self.histogram.edges
        centres = (edges[:-1] + edges[1:]) / 2
        return float((np.abs(centres - self._mean) * self.histogram.counts).sum() / self._count)
