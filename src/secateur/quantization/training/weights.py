"""Rounded weights as the last link of a weight's parametrizations.

    plain         w' = Q(w)
    with a norm   w' = Q(w s) / s ,   s = gamma / sqrt(var + eps)      of the norm that the export folds into the layer

The norm behind the layer multiplies by s again in evaluation, so that it computes with Q(w s), the weights of the
exported file. In training it multiplies by gamma / sqrt(batch variance): rounding follows the running statistics, the
network the batch's, which is the corrected form of folding. Once the norm's statistics are frozen both are the same.

A weight that is zero stays zero, whatever the rule: removed weights stay removed.

Source: Jacob et al. 2018, section 3.2; Krishnamoorthi 2018, section 3.2.2 (correction and freezing).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from secateur.quantization.numbers import Numbers
from secateur.quantization.training.straight_through import through
from secateur.recipe.schema.quantization_training import QuantizationTraining
from secateur.registry import Registry

# Norms that multiply by less than this switch the filter off.
_DEAD = 1e-12


@dataclass(frozen=True)
class Grid:
    """Integers that rounded weights lie on exactly.

    step    () or (filters,), float32, larger than 0
    zero    of the same shape, whole numbers
    """

    step: Tensor
    zero: Tensor
    numbers: Numbers


class WeightRule(nn.Module, ABC):
    """How the weights of one layer are rounded; filters lie on axis 0."""

    def __init__(self, bits: int, config: QuantizationTraining) -> None:
        super().__init__()
        self.bits, self.config = bits, config

    def start_(self, weight: Tensor) -> None:
        """Begin with these weights."""

    @abstractmethod
    def forward(self, weight: Tensor) -> Tensor:
        """The rounded weights, with gradients to `weight` and to what the rule learns."""

    @abstractmethod
    def grid(self, weight: Tensor) -> Grid | str:
        """The integers of `forward(weight)`, or why integers of 8 bits cannot tell it, as a sentence."""

    @property
    def folds(self) -> bool:
        """Whether the rule rounds what the export writes: weights times the scale of the norm behind them."""
        return False


weight_rules: Registry[type[WeightRule]] = Registry("rule for weights")


class RoundedWeight(nn.Module):
    """The parametrization of one weight.

    norm    that the export folds into the layer
    on      otherwise weights pass as they are
    """

    norm: nn.Module | None

    def __init__(self, rule: WeightRule, norm: nn.Module | None, filter_axis: int) -> None:
        super().__init__()
        self.rule, self.filter_axis, self.on = rule, filter_axis, True
        # Not a submodule: the norm has its place in the network already.
        self.__dict__["norm"] = norm

    def forward(self, weight: Tensor) -> Tensor:
        if not self.on:
            return weight
        scale = self.folded_scale()
        smooth = self.filters_first(weight)
        if scale is None or not self.rule.folds:
            rounded = self.rule(smooth)
        else:
            scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
            rounded = self.rule(smooth * scale) / scale
        rounded = self.filters_first(rounded)
        return through(rounded, rounded.masked_fill(weight == 0, 0.0))

    @torch.no_grad()
    def grid(self, weight: Tensor) -> Grid | str:
        """The integers of the exported weight, where `weight` is what `forward` would get."""
        scale = self.folded_scale()
        filters = self.filters_first(weight)
        if scale is not None and self.rule.folds:
            filters = filters * scale.reshape(-1, *[1] * (weight.ndim - 1))
        grid = self.rule.grid(filters)
        if scale is None or isinstance(grid, str):
            return grid
        step, zero, numbers = grid.step.expand_as(scale), grid.zero.expand_as(scale), grid.numbers
        if not self.rule.folds:
            # A negative scale turns the integers around.
            step, zero = step * scale.abs(), torch.where(scale < 0, numbers.low + numbers.high - zero, zero)
        # Filters that the norm sets to zero: any step tells them.
        dead = (self.scale_of_norm().abs() < _DEAD) | (step < torch.finfo(torch.float32).tiny)
        return Grid(torch.where(dead, torch.ones_like(step), step), zero, numbers)

    def folded_scale(self) -> Tensor | None:
        """What the export multiplies each filter by, (filters,); 1 where that is too near to 0 to divide by."""
        if self.norm is None:
            return None
        scale = self.scale_of_norm()
        return torch.where(scale.abs() < _DEAD, torch.ones_like(scale), scale)

    def scale_of_norm(self) -> Tensor:
        """gamma / sqrt(var + eps) of the norm."""
        norm = cast(nn.Module, self.norm)
        scale = torch.rsqrt(cast(Tensor, norm.running_var) + cast(float, norm.eps))
        gamma = cast(Tensor | None, norm.weight)
        return scale if gamma is None else scale * gamma.detach()

    def filters_first(self, weight: Tensor) -> Tensor:
        """Filters on axis 0; its own inverse."""
        return weight.transpose(0, 1) if self.filter_axis else weight


def before_rounding(module: nn.Module) -> Tensor:
    """What the rounding of a layer's weight gets: the weight behind its mask."""
    chain = cast(nn.ModuleDict, module.parametrizations)["weight"]
    weight = cast(Tensor, chain.original)
    for link in chain.children():
        if isinstance(link, RoundedWeight):
            break
        weight = cast(Tensor, link(weight))
    return weight


def attach_(module: nn.Module, rule: WeightRule, norm: nn.Module | None, filter_axis: int) -> RoundedWeight:
    """Round the weights of one layer behind its mask; the rule starts with them as they are."""
    rounding = RoundedWeight(rule, norm, filter_axis)
    with torch.no_grad():
        weight = rounding.filters_first(cast(Tensor, module.weight))
        scale = rounding.folded_scale()
        if scale is not None and rule.folds:
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        rule.start_(weight)
    parametrize.register_parametrization(module, "weight", rounding, unsafe=True)
    return rounding
