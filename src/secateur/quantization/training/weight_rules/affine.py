"""Weights between their extremes as they are at each step.

    sym      step = max |w| / (2^(b-1) - 1) ,   asym_u, asym_s   step = (max w - min w) / (2^b - 1)

Source: Jacob et al. 2018, section 3; Distiller's range-linear quantizer; TensorFlow's training rewriter.
"""

import torch
from torch import Tensor

from secateur.quantization.numbers import Numbers
from secateur.quantization.training.ranges import extremes, numbers_of, step_and_zero
from secateur.quantization.training.straight_through import affine
from secateur.quantization.training.weights import Grid, WeightRule, weight_rules


@weight_rules.register("affine")
class AffineWeights(WeightRule):
    """By the range of each filter or of all."""

    @property
    def folds(self) -> bool:
        return self.config.fold_norms

    def forward(self, weight: Tensor) -> Tensor:
        step, zero = self._step_and_zero(weight)
        return affine(weight, step, zero, self._numbers)

    def grid(self, weight: Tensor) -> Grid | str:
        step, zero = self._step_and_zero(weight)
        return Grid(step.flatten() if step.ndim else step, zero.flatten() if zero.ndim else zero, self._numbers)

    @property
    def _numbers(self) -> Numbers:
        return numbers_of(self.config.weight_mode or "sym", self.bits)

    @torch.no_grad()
    def _step_and_zero(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        low, high = extremes(weight, bool(self.config.per_channel))
        return step_and_zero(low, high, self._numbers)
