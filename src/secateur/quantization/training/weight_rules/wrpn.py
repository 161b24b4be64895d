"""Weights clipped to -1..1.

    w' = round(clamp(w, -1, 1) (2^(b-1) - 1)) / (2^(b-1) - 1)

Source: Mishra et al. 2018 (WRPN), section 5.
"""

import torch
from torch import Tensor

from secateur.quantization.numbers import Numbers
from secateur.quantization.training.straight_through import affine
from secateur.quantization.training.weights import Grid, WeightRule, weight_rules


@weight_rules.register("wrpn")
class ClippedWeights(WeightRule):
    """One fixed range for all filters of all layers."""

    def forward(self, weight: Tensor) -> Tensor:
        step = self._step(weight)
        return affine(weight, step, torch.zeros_like(step), self._numbers)

    def grid(self, weight: Tensor) -> Grid | str:
        step = self._step(weight)
        return Grid(step, torch.zeros_like(step), self._numbers)

    @property
    def _numbers(self) -> Numbers:
        return Numbers(self.bits, signed=True, symmetric=True)

    def _step(self, weight: Tensor) -> Tensor:
        return torch.tensor(1 / self._numbers.high, dtype=weight.dtype, device=weight.device)
