"""Activations whose step is learned.

    x' = s clamp(round(x / s), low - z, high - z) ,    z fixed: 0 where no value is negative, else by the first range
    dx'/ds = round(x / s) - x / s inside, the bound outside, times 1 / sqrt(n (high - z))    n values to an image
    s starts at 2 mean |x| / sqrt(high - z) of the first batch

Source: Esser et al. 2020 (LSQ), sections 2 and 2.2; the zero point of signed values is our own choice.
"""

import math

import torch
from torch import Tensor, nn

from secateur.quantization.training.activations import UNBOUNDED, ActivationRule, activation_rules
from secateur.quantization.training.ranges import step_and_zero
from secateur.quantization.training.straight_through import gradient_times, round_through
from secateur.quantization.training.weights import Grid
from secateur.recipe.schema.quantization_training import QuantizationTraining

_SMALLEST = 1e-12


@activation_rules.register("lsq")
class LearnedStep(ActivationRule):
    """By a learned step."""

    zero: Tensor
    started: Tensor

    def __init__(self, bits: int, config: QuantizationTraining, bounds: tuple[float, float] = UNBOUNDED) -> None:
        super().__init__(bits, config, bounds)
        self.step = nn.Parameter(torch.ones(()))
        self.register_buffer("zero", torch.zeros(()))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def observe_(self, x: Tensor) -> None:
        if self.started:
            return
        low, high = torch.aminmax(x.float())
        self.zero.copy_(step_and_zero(low, high, self.numbers)[1])
        step = 2 * x.float().abs().mean() / torch.sqrt((self.numbers.high - self.zero).clamp(min=1))
        self.step.copy_(torch.where(step < _SMALLEST, torch.ones_like(step), step))
        self.started.fill_(True)

    def rounded(self, x: Tensor) -> Tensor:
        low, high = self.numbers.low - self.zero, self.numbers.high - self.zero
        values = max(x[0].numel() if x.ndim > 1 else 1, 1)
        step = gradient_times(self.step, 1 / math.sqrt(values * max(float(high), 1.0))).abs().clamp(min=_SMALLEST)
        return round_through(torch.clamp(x / step, low, high)) * step

    def grid(self) -> Grid:
        return Grid(self.step.detach().abs().clamp(min=_SMALLEST), self.zero, self.numbers)
