"""The numbers that bytes stand for.

x = step (q - zero)        q a whole number of 8 bits, from lowest to highest
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.graph.ir import Activation

Floats = NDArray[Any]
Integers = NDArray[np.int32]
Bytes = NDArray[Any]


@dataclass(frozen=True)
class Grid:
    """Evenly spaced numbers.

    scale    distance of two of them, a float32
    zero     the integer that stands for 0
    dtype    uint8 or int8
    """

    scale: float
    zero: int
    dtype: str

    @property
    def step(self) -> np.float32:
        """The scale as kernels have it."""
        return np.float32(self.scale)

    @property
    def lowest(self) -> int:
        return int(np.iinfo(self.dtype).min)

    @property
    def highest(self) -> int:
        return int(np.iinfo(self.dtype).max)


def is_linear(activation: Activation | None) -> bool:
    """Whether an activation is the identity between two bounds, so that integers need nothing but a clamp."""
    return activation is None or activation.kind in ("relu", "clip")


def bounds(activation: Activation | None, grid: Grid) -> tuple[int, int]:
    """The lowest and highest integer that comes out of an activation which is_linear."""
    if activation is None:
        return grid.lowest, grid.highest
    low, high = (0.0, np.inf) if activation.kind == "relu" else (activation.alpha, activation.beta)
    return _nearest(low, grid), _nearest(high, grid)


def _nearest(value: float, grid: Grid) -> int:
    with np.errstate(over="ignore"):
        units = float(np.rint(np.float32(value) / grid.step)) + grid.zero
    return int(min(max(units, grid.lowest), grid.highest))


def centred(q: Bytes, zero: int) -> Integers:
    """q - zero, exactly."""
    return q.astype(np.int32) - np.int32(zero)


def rounded(units: Floats, grid: Grid, low: int | None = None, high: int | None = None) -> Bytes:
    """The integers nearest to multiples of the step, ties to even, clamped between low and high."""
    low, high = grid.lowest if low is None else low, grid.highest if high is None else high
    with np.errstate(invalid="ignore"):
        return np.clip(np.rint(units.astype(np.float64)) + grid.zero, low, high).astype(grid.dtype)


def to_integers(x: Floats, grid: Grid) -> Bytes:
    """The nearest numbers of the grid, as ONNX's QuantizeLinear rounds: x / scale, ties to even."""
    with np.errstate(over="ignore"):
        return rounded(x.astype(np.float32) / grid.step, grid)


def to_floats(q: Bytes, grid: Grid) -> Floats:
    """The numbers that integers stand for."""
    return centred(q, grid.zero).astype(np.float32) * grid.step
