"""What becomes of masks and removed weights during a training: the rules that hold whoever chooses the masks.

    update         scheduled     masks are chosen where the timing is due
                   every_step    before every forward pass, at the level in force (MSBench)
                   backup        scheduled, and removed weights keep their last value: momentum and weight decay do
                                 not move them (PocketFlow)
    every_steps    also before every m-th iteration that does not open an epoch, until the timing stops (Distiller)
    gradients      all: the removed weights get the gradient of the masked network (Distiller's double copies)
    skip_first_step, discard_after_step, keep_at_end, reset_optimizer      as their names say

All of it follows from the number of the step, so that a run that is killed goes on as if it had not been. Zeros hold
after every optimiser step by construction: the optimiser moves the dense weights behind the masks.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import SparsityError
from secateur.recipe import MaskRule
from secateur.sparsity.layers import layers_of, stored_weight, unwrapped, weighted_modules
from secateur.sparsity.mask import absorb_scale_, attach_masks_, keep_all_, mask_of, straight_through_
from secateur.sparsity.plan import SparsityPlan
from secateur.sparsity.schedule import Timing


class MaskKeeper(ABC):
    """Keeps the masks of the layers that a plan prunes, by a mask rule; who inherits chooses them.

    During a training the loop calls, in this order:  begin_, then for every step before_step_, after_backward_,
    after_step_, and at last finish_ and close_.
    """

    def __init__(self, model: nn.Module, plan: SparsityPlan, rule: MaskRule | None = None) -> None:
        """Gives the planned layers masks that keep everything. raises SparsityError for the plan of another model."""
        self.model = unwrapped(model)
        self.plan = plan
        self.rule = rule or MaskRule()
        self._steps_per_epoch = 1
        self._untouched: dict[str, Tensor] = {}
        if self.rule.update == "backup" and self.rule.gradients == "all":
            raise SparsityError(
                "update: backup leaves removed weights untouched, and gradients: all moves them; choose one of the two."
            )
        _check_fits(self.model, plan)
        attach_masks_(self.model, plan.levels)

    @property
    @abstractmethod
    def timing(self) -> Timing:
        """When masks change."""

    @abstractmethod
    def choose_(self, position: int) -> None:
        """Choose the masks as they should be at an epoch or iteration, whether it is due or not."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Plain JSON: all that the choice of masks depends on, except the weights."""

    @abstractmethod
    def at_final(self, position: int) -> bool:
        """Whether masks chosen at a position are as sparse as they will be in the end."""

    def settled(self, position: int) -> bool:
        """Whether the masks of a position are as sparse as the training leaves them."""
        if self.rule.discard_after_step:
            return False
        if not self.rule.keep_at_end:
            return self.timing.stop is not None and position >= self.timing.stop
        return self.at_final(position)

    def state(self) -> dict[str, Tensor]:
        """What was measured once and is needed later."""
        return {}

    def restore_(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave. raises SparsityError when it is of something else."""
        if state:
            raise SparsityError(f"{type(self).__name__} remembers nothing, but is given {', '.join(state)}.")

    def update_(self, position: int) -> bool:
        """Choose the masks if they are due at this epoch or iteration; returns whether they were."""
        if not self.timing.due(position):
            return False
        self.choose_(position)
        return True

    def begin_(self, steps_per_epoch: int) -> None:
        """A training with so many steps in an epoch begins, or goes on."""
        self._steps_per_epoch = steps_per_epoch
        self._straight_through_(self.rule.gradients == "all")

    def before_step_(self, step: int) -> bool:
        """Choose the masks if the rule asks for it before this step, counted from 0; returns whether they changed."""
        rule, timing = self.rule, self.timing
        epoch, batch = divmod(step, self._steps_per_epoch)
        by_epoch = timing.unit == "epoch"
        position, opens = (epoch, batch == 0) if by_epoch else (step, True)
        first = timing.first * self._steps_per_epoch if by_epoch else timing.first
        if step < first:
            return False
        over = timing.stop is not None and position >= timing.stop
        if over and not rule.keep_at_end:
            if opens and position == timing.stop:
                self.lift_()
                return True
            return False
        if rule.skip_first_step and step == first:
            return False
        if opens and self.update_(position):
            return True
        if (
            rule.update == "every_step"
            or (rule.skip_first_step and step == first + 1)
            or (rule.every_steps is not None and not over and batch > 0 and step % rule.every_steps == 0)
        ):
            self.choose_(position)
            return True
        return False

    @torch.no_grad()
    def after_backward_(self) -> None:
        """The optimiser is about to move the weights."""
        if self.rule.update == "backup":
            self._untouched = {
                name: stored_weight(module)[~mask_of(module)].clone() for name, module in self._layers().items()
            }

    @torch.no_grad()
    def after_step_(self) -> None:
        """The optimiser has moved the weights."""
        for name, module in self._layers().items() if self._untouched else ():
            stored_weight(module)[~mask_of(module)] = self._untouched[name]
        self._untouched = {}
        if self.rule.discard_after_step:
            self.lift_()

    def finish_(self, step: int) -> None:
        """The last step has been taken, `step` was its number: leave the masks as the rule wants them in the end."""
        position = step // self._steps_per_epoch if self.timing.unit == "epoch" else step
        if not self.rule.keep_at_end:
            self.lift_()
        elif self.rule.discard_after_step and position >= self.timing.first:
            self.choose_(position)
        self.settle_()

    def settle_(self) -> None:
        """The masks stay as they are: what they multiply becomes part of the weights, for all that reads these."""
        for module in self._layers().values():
            absorb_scale_(module)

    def close_(self) -> None:
        """The training is over or broken off; its rule for gradients ends with it."""
        self._straight_through_(False)

    def lift_(self) -> None:
        """Let the masks keep everything."""
        for module in self._layers().values():
            keep_all_(module)

    def _straight_through_(self, on: bool) -> None:
        for module in self._layers().values():
            straight_through_(module, on)

    def _layers(self) -> dict[str, nn.Module]:
        modules = weighted_modules(self.model)
        return {name: modules[name] for name in self.plan.levels}


def _check_fits(model: nn.Module, plan: SparsityPlan) -> None:
    shapes = {layer.name: layer.shape for layer in layers_of(model)}
    for layer in plan.layers:
        if layer.level is None:
            continue
        if layer.name not in shapes:
            raise SparsityError(f"the plan prunes {layer.name}, which the model does not have.")
        if shapes[layer.name] != layer.shape:
            raise SparsityError(
                f"the plan is for another model: {layer.name} has shape {shapes[layer.name]}, not {layer.shape}."
            )
