"""Learned thresholds under one constraint for the whole network: what is learned is how the layers share the zeros.

    m_g     = [s_g > sigmoid(a_l)]              s_g: mean |w| of a unit (a weight, a block)
    d m_g   = d (s_g - sigmoid(a_l))            where |s_g - sigmoid(a_l)| < 1: straight through the step
    loss    + lambda |zeros / N - target|       or its square; `target`: the share of zeros that the plan asks for

The thresholds begin where each layer is as sparse as its level in the plan. At the end the units with the smallest
log s_g - log sigmoid(a_l) of the whole network go, exactly as many as the plan has zeros.

Source: FCPTS (fast and controllable post-training sparsity, 2024); the exact end is our own design.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.sparsity import SparsityPlan
from secateur.sparsity.mask import keep_all_
from secateur.training.history import Row
from secateur.training.hooks import Scene
from secateur.training.methods.threshold_memory import ThresholdMemory
from secateur.training.methods.units import Units, catch, prune_to_, units_of
from secateur.training.optimizer import rate_of

# Thresholds are kept where the sigmoid can move them both ways.
SMALLEST, LARGEST = 1e-12, 1.0 - 1e-6


class ConstrainedThresholds(ThresholdMemory):
    """Learns a threshold for every planned layer; `end` leaves masks with the zeros of the plan in all.

    strength    lambda
    squared     the square of the difference instead of its size
    rate        learning rate of the thresholds, relative to that of the weights
    """

    def __init__(self, plan: SparsityPlan, strength: float = 1.0, squared: bool = False, rate: float = 1.0) -> None:
        self.plan, self.strength, self.squared, self.rate = plan, strength, squared, rate
        self.ended = False

    def begin(self, scene: Scene) -> None:
        self._scene = scene
        self._units = units_of(scene.model, self.plan, "learned thresholds")
        self._total = sum(unit.weight.numel() for unit in self._units)
        levels = self.plan.levels
        self._thresholds = [_start(unit, levels[unit.layer.name]).requires_grad_() for unit in self._units]
        for unit in self._units:
            keep_all_(unit.module)
        self._optimizer = torch.optim.SGD(self._thresholds, lr=1.0, momentum=scene.config.momentum, foreach=False)
        self._handles = catch(self._units, self._masked)

    def extra_loss(self, model: nn.Module, step: int) -> Tensor | None:
        if self.ended:
            return None
        kept = torch.stack([(unit.sizes * self._steps(number)).sum() for number, unit in enumerate(self._units)]).sum()
        outside = self._total - sum(float(unit.sizes.sum()) for unit in self._units)
        gap = 1.0 - (kept + outside) / self._total - self.plan.zeros / self._total
        return self.strength * (gap.square() if self.squared else gap.abs())

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        if self.ended:
            return
        self._optimizer.param_groups[0]["lr"] = self.rate * rate_of(self._scene.optimizer)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def end(self) -> None:
        """Masks of the exact count; from now on they stay."""
        if self.ended:
            return
        margins = [
            _sizes(unit, unit.weight).clamp(min=SMALLEST).log() - threshold.sigmoid().log()
            for unit, threshold in zip(self._units, self._thresholds, strict=True)
        ]
        prune_to_(self._units, margins, self.plan.zeros)
        self.close()
        self.ended = True

    def settled(self, row: Row) -> bool:
        return self.ended

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"ended": torch.tensor(self.ended)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        super().restore(state)
        self.ended = bool(state["ended"])
        if self.ended:
            self.close()

    def description(self) -> dict[str, Any]:
        settings = {"strength": self.strength, "squared": self.squared, "rate": self.rate}
        return settings | {"pattern": str(self.plan.pattern), "levels": self.plan.levels}

    def _steps(self, number: int) -> Tensor:
        """(units,) 1 where the unit stays, with the straight-through gradient."""
        unit, threshold = self._units[number], self._thresholds[number]
        over = _sizes(unit, unit.weight) - threshold.sigmoid()
        through = torch.where(over.detach().abs() < 1.0, over, over.detach())
        return (over.detach() > 0).double() + through - through.detach()

    def _masked(self, number: int, weight: Tensor) -> Tensor:
        return weight * self._units[number].spread(self._steps(number), 1.0).to(weight.dtype)


def _sizes(unit: Units, weight: Tensor) -> Tensor:
    return unit.mean_of(weight.abs())


@torch.no_grad()
def _start(unit: Units, level: float) -> Tensor:
    """The a at which the layer has its level."""
    sizes = _sizes(unit, unit.weight).sort().values
    last = min(int(level * len(sizes)), len(sizes) - 1)
    # Between the last unit that goes and the first that stays.
    cut = 0.5 * (sizes[last] + (sizes[last - 1] if last else 0.0))
    return torch.logit(cut.clamp(SMALLEST, LARGEST))
