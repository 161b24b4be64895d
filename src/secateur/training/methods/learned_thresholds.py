"""STR: a threshold for every layer, learned through soft thresholding.

    w'      = sign(w) relu(|w| - sigmoid(a_l))                                         for single weights
    w'_g    = w_g relu(1 - sigmoid(a_l) / m_g)        m_g the mean |w| of the unit     for blocks, the same at size 1

a_l learns with the weights, by the same steps of gradient descent. In the source weight decay on a_l steers how sparse
the network becomes, and the result is whatever it is. Here (our own design) all a_l of the network are shifted
together after every step, towards the level in force:

    s(t)    = s (1 - (1 - t / (RAMP T))^3), then s
    a_l     <- a_l + strength b        b: the shift that makes the network exactly s(t) sparse,
                                       the order statistic number s(t) N of  logit(m_g) - a_l  over all units

so what is learned is how the layers share the zeros. At the end the units with the lowest logit(m_g) - a_l go, as many
as the plan says, and the kept weights keep their thresholded values.

Source: Kusupati et al. 2020.
"""

from typing import Any

import torch
from torch import Tensor

from secateur.errors import TrainingError
from secateur.recipe import Str, Training
from secateur.sparsity import SparsityPlan
from secateur.training import distributed
from secateur.training.history import Row
from secateur.training.hooks import Scene
from secateur.training.methods.threshold_memory import ThresholdMemory
from secateur.training.methods.units import catch, lowest, units_of

# The share of the run in which the level rises; the rest adapts, as with the default schedule of masks.
RAMP = 0.6
# The largest mean |w| that a threshold below 1 can reach.
LARGEST = 1.0 - 1e-12


def shift_to(margins: Tensor, sizes: Tensor, zeros: float) -> float:
    """The b at which units of `zeros` weights, or the next smaller number, have a margin of at most b.

    margins    (units,) logit(m_g) - a_l
    returns    0 when `zeros` is less than the first unit
    """
    order = torch.argsort(margins, stable=True)
    count = int((sizes[order].cumsum(0) <= zeros).sum())
    return float(margins[order[count - 1]]) if count else 0.0


def check_training(config: Training) -> None:
    """raises TrainingError for an average of the weights, which would not see the thresholds"""
    if config.average_weights is not None:
        raise TrainingError(
            "method str ends by writing its thresholds into the weights, which an average of the weights of earlier "
            "steps does not have; leave average_weights out."
        )


class LearnedThresholds(ThresholdMemory):
    """Learns how the layers share the zeros; the planned layers end with masks of the planned count in all."""

    def __init__(self, plan: SparsityPlan, config: Str) -> None:
        self.plan, self.config = plan, config

    def begin(self, scene: Scene) -> None:
        check_training(scene.config)
        self._scene, self._ended = scene, False
        self._units = units_of(scene.model, self.plan, "str")
        self._sizes = torch.cat([unit.sizes for unit in self._units])
        first = self._units[0].weight
        self._thresholds = [
            torch.tensor(self.config.threshold_init, dtype=torch.float64, device=first.device).requires_grad_()
            for _ in self._units
        ]
        momentum = scene.config.momentum
        self._optimizer = torch.optim.SGD(
            self._thresholds, lr=scene.config.learning_rate, momentum=momentum, foreach=False
        )
        self._handles = catch(self._units, self._thresholded)

    def after_backward(self, step: int) -> None:
        for threshold in self._thresholds:
            if threshold.grad is not None:
                threshold.grad = distributed.sum_over_group(threshold.grad) / distributed.world_size()

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        self._optimizer.param_groups[0]["lr"] = self._scene.optimizer.param_groups[0]["lr"]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        place = min(1.0, (step + 1) / (RAMP * self._scene.steps))
        zeros = self.plan.zeros * (1.0 - (1.0 - place) ** 3)
        shift = shift_to(torch.cat(self._margins()), self._sizes, zeros)
        for threshold in self._thresholds:
            threshold += min(self.config.strength, 1.0) * shift

    @torch.no_grad()
    def end(self) -> None:
        self.close()
        kept = lowest(self._units, self._margins(), self.plan.zeros)
        for unit, threshold, stay in zip(self._units, self._thresholds, kept, strict=True):
            mean = unit.mean_of(unit.weight.abs())
            # Not above the smallest unit that stays, which would vanish without being counted.
            cut = min(float(threshold.sigmoid()), 0.999 * float(mean[stay].min()))
            factor = torch.where(stay, 1.0 - cut / mean.clamp(min=1e-300), torch.ones_like(mean))
            unit.weight.mul_(unit.spread(factor.to(unit.weight.dtype), 1.0))
            unit.keep_(stay)
        self._ended = True

    def settled(self, row: Row) -> bool:
        return self._ended

    def description(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json") | {"pattern": str(self.plan.pattern), "levels": self.plan.levels}

    def _margins(self) -> list[Tensor]:
        means = [unit.mean_of(unit.weight.detach().abs()).clamp(max=LARGEST) for unit in self._units]
        # Zeros have no margin of their own: below every other one.
        return [
            torch.logit(mean.clamp(min=1e-300)) - threshold.detach()
            for mean, threshold in zip(means, self._thresholds, strict=True)
        ]

    def _thresholded(self, number: int, weight: Tensor) -> Tensor:
        unit, threshold = self._units[number], self._thresholds[number].sigmoid().to(weight.dtype)
        if unit.owner.numel() == unit.sizes.numel():
            return weight.sign() * torch.relu(weight.abs() - threshold)
        mean = unit.mean_of(weight.abs()).to(weight.dtype).clamp(min=torch.finfo(weight.dtype).tiny)
        return weight * unit.spread(torch.relu(1.0 - threshold / mean), 1.0)
