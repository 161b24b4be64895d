"""RigL: constant sparsity; every few steps weak weights go and as many others come back where the gradient is large.

    share(t)    drop/2 (1 + cos(pi t / t_end))           of a layer's kept units, at t = every, 2 every, ... < t_end
    drop        the kept units of smallest mean |w|
    grow        as many of the units that were removed before, of largest mean |gradient|; their weights start at zero,
                and so does what the optimiser remembers of them

The gradient of a removed weight is that of the zero which the network computes with, taken from the step's own
backward pass; in a group of processes it is the mean of all. The count of every layer stays exactly as it was.

Source: Evci et al. 2020. A unit that was dropped in this very update does not grow again (there it may); blocks as
units are our own design.
"""

import math
from typing import Any

import torch
from torch import Tensor

from secateur.recipe import RigL
from secateur.sparsity import SparsityPlan
from secateur.training import distributed
from secateur.training.hooks import Hook, Scene
from secateur.training.methods.units import Units, catch, units_of


def drop_share(config: RigL, step: int, steps: int) -> float:
    """Share of the kept units that is exchanged at a step; 0 where nothing is due."""
    end = config.end * steps
    if step == 0 or step % config.every or step >= end:
        return 0.0
    return config.drop / 2 * (1.0 + math.cos(math.pi * step / end))


def exchanged(kept: Tensor, weights: Tensor, gradients: Tensor, share: float) -> Tensor:
    """The units that stay after one exchange.

    kept         boolean, one per unit
    weights      mean |w|; the smallest of the kept go
    gradients    mean |gradient|; the largest of the removed come; equal ones in index order
    """
    count = min(int(share * int(kept.sum())), int((~kept).sum()))
    dropped = torch.argsort(weights.masked_fill(~kept, torch.inf), stable=True)[:count]
    grown = torch.argsort(gradients.masked_fill(kept, -torch.inf), descending=True, stable=True)[:count]
    after = kept.clone()
    after[dropped], after[grown] = False, True
    return after


class DropAndGrow(Hook):
    """Moves the kept units of the planned layers; their first masks must be there, from a one-shot sparsifier."""

    def __init__(self, plan: SparsityPlan, config: RigL) -> None:
        self.plan, self.config = plan, config

    def begin(self, scene: Scene) -> None:
        self._scene = scene
        self._units = units_of(scene.model, self.plan, "rigl", competing=False)
        self._gradients: dict[int, Tensor] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def before_step(self, step: int) -> None:
        self._gradients = {}
        if drop_share(self.config, step, self._scene.steps) > 0:
            self._handles = catch(self._units, self._listened)

    @torch.no_grad()
    def after_backward(self, step: int) -> None:
        share = drop_share(self.config, step, self._scene.steps)
        if share > 0:
            self.close()
            for number, unit in enumerate(self._units):
                gradient = self._gradients.get(number, torch.zeros_like(unit.weight))
                self._exchange_(unit, gradient, share)
        self._gradients = {}

    def close(self) -> None:
        for handle in getattr(self, "_handles", ()):
            handle.remove()
        self._handles = []

    def description(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json")

    def _listened(self, number: int, weight: Tensor) -> Tensor:
        def add(gradient: Tensor) -> None:
            before = self._gradients.get(number)
            self._gradients[number] = gradient if before is None else before + gradient

        if weight.requires_grad:
            weight.register_hook(add)
        return weight

    def _exchange_(self, unit: Units, gradient: Tensor, share: float) -> None:
        gradient = distributed.sum_over_group(gradient.clone()) / distributed.world_size()
        kept = unit.mean_of(unit.mask.mask.float()) > 0
        after = exchanged(kept, unit.mean_of(unit.weight.abs()), unit.mean_of(gradient.abs()), share)
        new = unit.spread((after & ~kept).float(), 0.0) > 0
        unit.keep_(after)
        forget_(unit, new, self._scene.optimizer)


def forget_(unit: Units, where: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Set some weights of a layer to zero, with their gradient and all that the optimiser remembers of them."""
    memory = optimizer.state.get(unit.weight, {})
    gradient = () if unit.weight.grad is None else (unit.weight.grad,)
    for tensor in (unit.weight, *gradient, *memory.values()):
        if isinstance(tensor, Tensor) and tensor.shape == unit.weight.shape:
            tensor.masked_fill_(where, 0.0)
