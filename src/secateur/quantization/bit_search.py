"""Bits of each layer as decisions of a search, one layer after the other.

    state    = [one-hot(l), shape of 4 numbers, n_l, weights of the layers after l], columns over their maximum
    b_l      = min( b_max, b_min + round(a (b_max - b_min)), b_min + floor((budget - used - b_min rest) / n_l) )
               rest: weights of the layers that are not decided yet, this one among them
    last     = min( b_max, floor((budget - used) / n_l) )
    reward   = the score of the quantized network, a fraction

Source: PocketFlow (bit allocation with DDPG). It deals with the layers in another order in each roll-out; here their
order is fixed, as in the other searches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from secateur.errors import QuantizationError
from secateur.quantization.answers import logits_of, top1_agreement
from secateur.quantization.mixed_precision import BitChoice, Score, with_bits
from secateur.quantization.qdq import write_qdq
from secateur.quantization.subjects import Batches
from secateur.quantization.table import ScaleTable
from secateur.recipe import Search
from secateur.search import Found, search
from secateur.search.problem import State, by_maximum


@dataclass(frozen=True)
class BitDecision:
    """A weight: its name, its shape as stored, how many numbers it has."""

    name: str
    shape: tuple[int, ...]
    weights: int


@dataclass(frozen=True)
class BitProblem:
    """Bits for `layers`, at most `average` per weight, each from `fewest` to `most`.

    raises    QuantizationError  no layers, or an average that cannot be
    """

    layers: tuple[BitDecision, ...]
    average: float
    fewest: int = 2
    most: int = 8

    def __post_init__(self) -> None:
        if not self.layers:
            raise QuantizationError("there is no layer whose bits could be searched.")
        if not 2 <= self.fewest <= self.most <= 16:
            raise QuantizationError(f"bits go from 2 to 16, the fewest first, not from {self.fewest} to {self.most}.")
        if not self.average >= self.fewest:
            raise QuantizationError(
                f"{self.average:g} bits on average are out of reach when every layer has at least {self.fewest}."
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.layers)

    @property
    def width(self) -> int:
        return len(self.layers) + 6

    @property
    def low(self) -> float:
        return 0.0

    @property
    def total(self) -> int:
        return sum(layer.weights for layer in self.layers)

    def state(self, shares: Sequence[float]) -> State:
        place = len(shares)
        if place == len(self.layers):
            return np.zeros(self.width, np.float32)
        return self._columns[place].astype(np.float32)

    def share(self, shares: Sequence[float], action: float) -> float:
        """The bits of the next layer, a whole number."""
        place = len(shares)
        layer = self.layers[place]
        used = sum(before.weights * bits for before, bits in zip(self.layers, shares, strict=False))
        # As fractions of whole numbers, so that a budget that is met exactly is not missed by a rounding.
        left = round(self.average * self.total * (1 + 1e-12), 6) - used
        if place == len(self.layers) - 1:
            return float(min(self.most, max(self.fewest, floor(left / layer.weights))))
        rest = sum(after.weights for after in self.layers[place:])
        room = floor((left - self.fewest * rest) / layer.weights)
        wanted = floor(action * (self.most - self.fewest) + 0.5)
        return float(max(self.fewest, min(self.most, self.fewest + wanted, self.fewest + room)))

    def stored(self, action: float, share: float) -> float:
        """The action itself, cut or not."""
        return action

    def reward(self, shares: Sequence[float], accuracy: float) -> float:
        return accuracy

    def description(self) -> dict[str, Any]:
        return {"kind": "bits", **asdict(self)}

    @cached_property
    def _columns(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        shapes = np.array([(*layer.shape, 1, 1, 1, 1)[:4] for layer in self.layers], np.float64)
        weights = np.array([layer.weights for layer in self.layers], np.float64)
        after = weights[::-1].cumsum()[::-1] - weights
        return by_maximum(np.column_stack([np.eye(len(self.layers)), shapes, weights, after]))


def search_bits(
    model: onnx.ModelProto,
    table: ScaleTable,
    batches: Batches,
    folder: Path | str,
    settings: Search,
    *,
    average: float,
    fewest: int = 2,
    most: int = 8,
    score: Score | None = None,
    seed: int = 0,
    depends_on: Mapping[str, Any] | None = None,
) -> tuple[BitChoice, Found]:
    """Bits found by trying tables: the best one, and all roll-outs.

    model         prepared
    folder        gets the roll-outs; the same search goes on from there
    settings      learner (ddpg or random), how many roll-outs
    score         of a quantized file, a fraction; by default the share of the images that it answers as the float file
    depends_on    plain JSON: what else the score depends on
    raises        QuantizationError, and what searching raises
    """
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if tensor.name in table.weights}
    layers = tuple(BitDecision(name, sizes[name], int(np.prod(sizes[name]))) for name in table.weights)
    problem = BitProblem(layers, average, fewest, most)
    judged = _as_the_float_file(model, batches) if score is None else score

    def worth(shares: Mapping[str, float]) -> float:
        bits = {name: int(own) for name, own in shares.items()}
        return judged(write_qdq(model, with_bits(model, table, bits)))

    found = search(problem, worth, folder, settings, seed=seed, depends_on=depends_on)
    bits = {name: int(own) for name, own in found.table.items()}
    used = sum(layer.weights * bits[layer.name] for layer in layers)
    return BitChoice(bits, used / problem.total, 1.0 - found.best.accuracy), found


def _as_the_float_file(model: onnx.ModelProto, batches: Batches) -> Score:
    """The share of the images that a file answers as the float one does."""
    wanted = logits_of(model, batches)

    def score(file: onnx.ModelProto) -> float:
        return top1_agreement(wanted, logits_of(file, batches))

    return score
