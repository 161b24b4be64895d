"""Levels of weight sparsity as decisions, one layer after the other.

    state    = [one-hot(l), shape of 4 numbers, n_l, sum_{j<l} n_j (1 - r_j), sum_{j>l} n_j], columns over their maximum
    r_min    = max(0, 1 - 3 (1 - p))       r_max = 1 - (1 - p) / 3        p: target
    a > 1/2    r = r_max - 2 (1 - a) (r_max - p)
    a <= 1/2   r = r_min + 2 a (p - r_min)                  then clipped to [r_min, r_max]
    single     r_min is first raised to (p sum n - sum_{j<l} n_j r_j - sum_{j>l} n_j r_max) / n_l;  reward = accuracy
    multi      reward = accuracy * ln(1 + sum n_l r_l / counted)

What is kept so far is divided by the maximum of what is still to come. Source: PocketFlow (weight sparsification with
DDPG); the bound on single layers is our own.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import log
from typing import Any, Literal

import numpy as np

from secateur.errors import SparsityError
from secateur.search.problem import State, by_maximum


@dataclass(frozen=True)
class LevelDecision:
    """A layer: its shape as stored, the weights that its pattern can reach, and the most that it may lose of them."""

    name: str
    shape: tuple[int, ...]
    weights: int
    bound: float = 0.99


@dataclass(frozen=True)
class LevelProblem:
    """Levels for `layers`.

    target     fraction of the weights of `layers` that goes
    counted    weights that the overall ratio of the reward multi is a fraction of; by default those of `layers`
    raises     SparsityError  no layers, or a target that their bounds do not reach
    """

    layers: tuple[LevelDecision, ...]
    target: float
    reward_type: Literal["single", "multi"] = "single"
    counted: int | None = None

    def __post_init__(self) -> None:
        if not self.layers:
            raise SparsityError("there is no layer whose level could be searched.")
        if not 0.0 <= self.target < 1.0:
            raise SparsityError(f"a target sparsity is at least 0 and below 1, not {self.target:g}.")
        most = sum(layer.weights * self.largest(layer) for layer in self.layers)
        if most < self.target * self.total * (1 - 1e-12):
            raise SparsityError(
                f"levels of {self.target:g} on average are out of reach: the bounds of the {len(self.layers)} layers "
                f"allow {most / self.total:.4f}. Raise the cap, or lower the target."
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.layers)

    @property
    def width(self) -> int:
        return len(self.layers) + 7

    @property
    def low(self) -> float:
        return 0.0

    @property
    def total(self) -> int:
        return sum(layer.weights for layer in self.layers)

    @property
    def smallest(self) -> float:
        """r_min before it is raised."""
        return max(0.0, 1.0 - 3.0 * (1.0 - self.target))

    def largest(self, layer: LevelDecision) -> float:
        """r_max of a layer."""
        return min(1.0 - (1.0 - self.target) / 3.0, layer.bound)

    def state(self, shares: Sequence[float]) -> State:
        place = len(shares)
        if place == len(self.layers):
            return np.zeros(self.width, np.float32)
        kept = sum(layer.weights * (1.0 - share) for layer, share in zip(self.layers, shares, strict=False))
        row = self._columns[place].copy()
        row[-2] = kept / self._later[0] if self._later[0] else 0.0
        return row.astype(np.float32)

    def share(self, shares: Sequence[float], action: float) -> float:
        place = len(shares)
        layer = self.layers[place]
        lowest, highest, target = self.smallest, 1.0 - (1.0 - self.target) / 3.0, self.target
        if self.reward_type == "single":
            gone = sum(before.weights * share for before, share in zip(self.layers, shares, strict=False))
            most = sum(after.weights * self.largest(after) for after in self.layers[place + 1 :])
            lowest = max(lowest, (target * self.total - gone - most) / layer.weights)
        if action > 0.5:
            level = highest - 2.0 * (1.0 - action) * (highest - target)
        else:
            level = lowest + 2.0 * action * (target - lowest)
        return min(max(level, lowest), self.largest(layer))

    def stored(self, action: float, share: float) -> float:
        """The action itself, cut or not."""
        return action

    def reward(self, shares: Sequence[float], accuracy: float) -> float:
        if self.reward_type == "single":
            return accuracy
        gone = sum(layer.weights * share for layer, share in zip(self.layers, shares, strict=True))
        return accuracy * log(1.0 + gone / (self.counted or self.total))

    def description(self) -> dict[str, Any]:
        return {"kind": "levels", **asdict(self)}

    @property
    def _later(self) -> list[int]:
        weights = [layer.weights for layer in self.layers]
        return [sum(weights[place + 1 :]) for place in range(len(weights))]

    @cached_property
    def _columns(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The states with nothing kept so far: (layers, width)."""
        shapes = np.array([_four(layer.shape) for layer in self.layers], np.float64)
        weights = np.array([layer.weights for layer in self.layers], np.float64)
        nothing = np.zeros(len(self.layers))
        rest = np.array(self._later, np.float64)
        return by_maximum(np.column_stack([np.eye(len(self.layers)), shapes, weights, nothing, rest]))


def _four(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Four numbers of a shape: a linear layer's is padded with ones."""
    return (*shape, 1, 1, 1, 1)[:4]
