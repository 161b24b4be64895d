"""Activations clipped to 0..1, behind ReLU.

    x' = round(clamp(x, 0, 1) (2^b - 1)) / (2^b - 1)

Source: Zhou et al. 2016 (DoReFa-Net), section 2.4; Mishra et al. 2018 (WRPN), section 5.
"""

import torch
from torch import Tensor

from secateur.quantization.numbers import Numbers
from secateur.quantization.training.activations import UNBOUNDED, ActivationRule, activation_rules
from secateur.quantization.training.straight_through import affine
from secateur.quantization.training.weights import Grid
from secateur.recipe.schema.quantization_training import QuantizationTraining


@activation_rules.register("clipped")
class UnitRange(ActivationRule):
    """By the fixed range 0..1."""

    step: Tensor

    def __init__(self, bits: int, config: QuantizationTraining, bounds: tuple[float, float] = UNBOUNDED) -> None:
        super().__init__(bits, config, bounds)
        # A buffer, so that it moves with the network.
        self.register_buffer("step", torch.tensor(1 / self.numbers.high), persistent=False)

    @property
    def numbers(self) -> Numbers:
        return Numbers(self.bits)

    def rounded(self, x: Tensor) -> Tensor:
        return affine(x, self.step, torch.zeros_like(self.step), self.numbers)

    def grid(self) -> Grid:
        return Grid(self.step, torch.zeros_like(self.step), self.numbers)
