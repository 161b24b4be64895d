"""Weights whose step is learned.

    w' = s clamp(round(w / s), -(2^(b-1) - 1), 2^(b-1) - 1)
    dw'/ds = round(w / s) - w / s inside, the bound outside, times 1 / sqrt(n q_max)     n weights to a step
    s starts at 2 mean |w| / sqrt(q_max)

Source: Esser et al. 2020 (LSQ), sections 2 and 2.2; the lowest integer is left out, as in all weights here.
"""

import math

import torch
from torch import Tensor, nn

from secateur.quantization.numbers import Numbers
from secateur.quantization.training.straight_through import gradient_times, round_through
from secateur.quantization.training.weights import Grid, WeightRule, weight_rules

_SMALLEST = 1e-12


@weight_rules.register("lsq")
class LearnedStepWeights(WeightRule):
    """By a learned step for each filter or for all."""

    step: nn.Parameter

    @property
    def folds(self) -> bool:
        return self.config.fold_norms

    def start_(self, weight: Tensor) -> None:
        per_channel = bool(self.config.per_channel)
        mean = weight.abs().mean(dim=tuple(range(1, weight.ndim))) if per_channel else weight.abs().mean()
        step = 2 * mean / math.sqrt(self._numbers.high)
        self.step = nn.Parameter(torch.where(step < _SMALLEST, torch.ones_like(step), step))

    def forward(self, weight: Tensor) -> Tensor:
        high = self._numbers.high
        step = gradient_times(self.step, 1 / math.sqrt(weight.numel() / self.step.numel() * high))
        step = step.abs().clamp(min=_SMALLEST)
        if step.ndim:
            step = step.reshape(-1, *[1] * (weight.ndim - 1))
        return round_through(torch.clamp(weight / step, -high, high)) * step

    def grid(self, weight: Tensor) -> Grid | str:
        step = self.step.detach().abs().clamp(min=_SMALLEST)
        return Grid(step, torch.zeros_like(step), self._numbers)

    @property
    def _numbers(self) -> Numbers:
        return Numbers(self.bits, signed=True, symmetric=True)
