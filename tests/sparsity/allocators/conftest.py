"""Facts about made-up layers, for allocations that look into the network."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from secateur.sparsity import Layer, Pattern, Unstructured


class MadeUp:
    """Weights by name; every layer's pattern is the same."""

    def __init__(
        self, weights: Mapping[str, Tensor], halvings: Mapping[str, int] | None = None, pattern: Pattern | None = None
    ) -> None:
        self.weights = {name: torch.as_tensor(weight, dtype=torch.float32) for name, weight in weights.items()}
        self.found = halvings or {}
        self.pattern = pattern or Unstructured()

    @property
    def layers(self) -> list[Layer]:
        return [
            Layer(name, "linear" if weight.ndim == 2 else "conv", tuple(weight.shape))
            for name, weight in self.weights.items()
        ]

    def weight(self, name: str) -> Tensor:
        return self.weights[name]

    def group_scores(self, name: str, scores: Tensor) -> Tensor:
        return self.pattern.group_scores(scores, 1)

    def halvings(self) -> Mapping[str, int]:
        return self.found


@pytest.fixture(scope="session")
def made_up() -> type[MadeUp]:
    return MadeUp
