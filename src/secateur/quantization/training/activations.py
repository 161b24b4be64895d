"""Rounded activations: one module for all places whose values share their integers."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from secateur.quantization.numbers import Numbers
from secateur.quantization.training.ranges import numbers_of
from secateur.quantization.training.weights import Grid
from secateur.recipe.schema.quantization_training import QuantizationTraining
from secateur.registry import Registry

UNBOUNDED = (-math.inf, math.inf)


class ActivationRule(nn.Module, ABC):
    """How the values of one group are rounded.

    bounds    what the range of the values cannot exceed
    on        otherwise they pass as they are; what is observed is observed all the same
    """

    def __init__(self, bits: int, config: QuantizationTraining, bounds: tuple[float, float] = UNBOUNDED) -> None:
        super().__init__()
        self.bits, self.config, self.bounds, self.on = bits, config, bounds, True

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        if self.training:
            with torch.no_grad():
                self.observe_(x.detach())
        return self.rounded(x) if self.on else x

    def observe_(self, x: Tensor) -> None:
        """Take the values of one batch into account."""

    @abstractmethod
    def rounded(self, x: Tensor) -> Tensor:
        """The values as integers tell them, with gradients to `x` and to what the rule learns."""

    @abstractmethod
    def grid(self) -> Grid:
        """The integers."""

    def penalty(self) -> Tensor | None:
        """What the rule adds to the loss."""
        return None

    @property
    def numbers(self) -> Numbers:
        """Those of the recipe's mode."""
        return numbers_of(self.config.activation_mode, self.bits)


activation_rules: Registry[type[ActivationRule]] = Registry("rule for activations")
