"""What a percentage of zeros is a percentage of: the bases, and how much of one is zero."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from secateur.graph.layer_count import LayerCount

Base = Literal["conv_linear", "selected", "conv_only", "all_params", "macs", "channels"]

BASES: dict[str, str] = {
    "conv_linear": "weights of all convolution and linear layers",
    "selected": "weights of the layers that may be pruned",
    "conv_only": "weights of all convolutions",
    "all_params": "all parameters: weights, biases, norms",
    "macs": "multiply-accumulates",
    "channels": "output channels",
}


@dataclass(frozen=True)
class BaseCount:
    """How much of one base is zero."""

    base: Base
    zeros: int
    total: int

    @property
    def sparsity(self) -> float:
        return self.zeros / self.total if self.total else 0.0

    @property
    def reduction(self) -> float:
        """Total / what is left."""
        return ratio(self.total, self.total - self.zeros)

    def __str__(self) -> str:
        return f"{100 * self.sparsity:.5f} % of {self.total:,} ({self.base}: {BASES[self.base]})"

    @classmethod
    def of_weights(cls, base: Base, layers: Sequence[LayerCount]) -> "BaseCount":
        """The weights of these layers, and those of them that are zero."""
        total = sum(layer.weights for layer in layers)
        return cls(base, total - sum(layer.nonzeros for layer in layers), total)


def ratio(whole: int, left: int) -> float:
    """Whole / what is left: 1 when nothing is gone, infinite when everything is."""
    if left:
        return whole / left
    return math.inf if whole else 1.0
