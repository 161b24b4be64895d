"""Activations clipped where it is learned, behind ReLU.

    y = clamp(x, 0, a) ,   x' = round(y (2^b - 1) / a) a / (2^b - 1)
    dx'/dx = 1 below a, 0 from there on ;   dx'/da = 0 below a, 1 from there on
    loss + decay / 2 a^2

Source: Choi et al. 2018 (PACT), equations 1 to 3; a starts at 8, as in Distiller.
"""

import torch
from torch import Tensor, nn

from secateur.quantization.numbers import Numbers
from secateur.quantization.training.activations import UNBOUNDED, ActivationRule, activation_rules
from secateur.quantization.training.straight_through import round_through
from secateur.quantization.training.weights import Grid
from secateur.recipe.schema.quantization_training import QuantizationTraining

_SMALLEST = 1e-6


@activation_rules.register("pact")
class LearnedClip(ActivationRule):
    """By a learned clip."""

    def __init__(self, bits: int, config: QuantizationTraining, bounds: tuple[float, float] = UNBOUNDED) -> None:
        super().__init__(bits, config, bounds)
        self.clip = nn.Parameter(torch.tensor(float(config.clip)))

    @property
    def numbers(self) -> Numbers:
        return Numbers(self.bits)

    def rounded(self, x: Tensor) -> Tensor:
        clip = self.clip.clamp(min=_SMALLEST)
        clipped = torch.where(x < clip, x.clamp(min=0.0), clip)
        step = self._step()
        return round_through(clipped / step) * step

    def grid(self) -> Grid:
        step = self._step()
        return Grid(step, torch.zeros_like(step), self.numbers)

    def penalty(self) -> Tensor | None:
        return self.config.clip_decay / 2 * self.clip.square() if self.config.clip_decay else None

    def _step(self) -> Tensor:
        return self.clip.detach().clamp(min=_SMALLEST) / self.numbers.high
