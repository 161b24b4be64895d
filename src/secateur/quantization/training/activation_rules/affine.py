"""Activations between a moving average of the extremes of the batches.

    low_t = low_(t-1) + (1 - d) / (1 - d^t) (min of batch t - low_(t-1)) ,      high likewise, d the decay

which is the exponential mean without weight on where it starts; the first batches count alike.

Source: Jacob et al. 2018, section 3.1 (d between .99 and .9999); Distiller's range-linear training (d = .999).
"""

import torch
from torch import Tensor

from secateur.quantization.training.activations import UNBOUNDED, ActivationRule, activation_rules
from secateur.quantization.training.ranges import step_and_zero
from secateur.quantization.training.straight_through import affine
from secateur.quantization.training.weights import Grid
from secateur.recipe.schema.quantization_training import QuantizationTraining


@activation_rules.register("affine")
class MovingRange(ActivationRule):
    """By the moving average of the extremes."""

    low: Tensor
    high: Tensor
    batches: Tensor

    def __init__(self, bits: int, config: QuantizationTraining, bounds: tuple[float, float] = UNBOUNDED) -> None:
        super().__init__(bits, config, bounds)
        for name in ("low", "high", "batches"):
            # Counted in float64: a tensor keeps its type when a network is moved to half precision.
            self.register_buffer(name, torch.zeros((), dtype=torch.float64 if name == "batches" else torch.float32))

    def observe_(self, x: Tensor) -> None:
        decay = self.config.decay or 0.99
        self.batches += 1
        weight = ((1 - decay) / (1 - decay**self.batches)).float()
        low, high = torch.aminmax(x)
        self.low += weight * (low.float() - self.low)
        self.high += weight * (high.float() - self.high)

    def rounded(self, x: Tensor) -> Tensor:
        return affine(x, *self._step_and_zero(), self.numbers)

    def grid(self) -> Grid:
        return Grid(*self._step_and_zero(), self.numbers)

    def _step_and_zero(self) -> tuple[Tensor, Tensor]:
        low, high = self.bounds
        return step_and_zero(self.low.clamp(min=low), self.high.clamp(max=high), self.numbers)
