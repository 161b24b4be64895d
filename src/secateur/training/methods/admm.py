"""ADMM: weights are pulled to their own projection onto the pattern, then cut.

    minimise    loss(W) + rho/2 |W - Z + U|^2         W by the optimiser, with the penalty's gradient rho (W - Z + U)
    every epoch Z <- P(W + U),   U <- U + W - Z       P: the nearest weights that have the pattern at the planned level
    at the cut  the mask of P(W); the rest of the epochs trains what is kept

Z starts as P(W) and U at zero. The units with the largest sum of squares stay, which is the nearest point.

Source: Zhang et al. 2018; Boyd et al. 2011. MSBench takes its penalty from detached tensors, so that nothing is pulled.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import SparsityError
from secateur.recipe import Admm
from secateur.sparsity import (
    PlannedLayer,
    SparsityPlan,
    as_stored,
    attach_masks_,
    filters_first,
    make_mask,
    set_mask_,
    stored_weight,
    unwrapped,
)
from secateur.sparsity.layers import weighted_modules
from secateur.training.history import Row
from secateur.training.hooks import Hook, Scene


def nearest_mask(weight: Tensor, layer: PlannedLayer, plan: SparsityPlan) -> Tensor:
    """The mask of the nearest weights with the pattern and level of the plan. raises SparsityError."""
    scores = filters_first(weight.detach(), layer.kind, layer.groups).double().square()
    try:
        mask = make_mask(
            scores, plan.pattern, layer.level or 0.0, plan.rounding, ties=plan.ties, groups=layer.groups, combine="sum"
        )
    except SparsityError as error:
        raise SparsityError(f"{layer.name}: {error}") from error
    return as_stored(mask, layer.kind, layer.groups)


class AdmmPull(Hook):
    """Pulls the planned layers to the pattern for a share of the epochs, then gives them their masks."""

    def __init__(self, plan: SparsityPlan, config: Admm) -> None:
        self.plan, self.config = plan, config

    def begin(self, scene: Scene) -> None:
        model = unwrapped(scene.model)
        attach_masks_(model, self.plan.levels)
        modules = weighted_modules(model)
        self._layers = [layer for layer in self.plan.layers if layer.level is not None]
        self._modules: list[nn.Module] = [modules[layer.name] for layer in self._layers]
        self._cut = max(1, round(self.config.share * scene.config.epochs))
        self._steps_per_epoch, self._done = scene.steps_per_epoch, False
        self._z = [self._projected(number, weight) for number, weight in enumerate(self._weights())]
        self._u = [torch.zeros_like(weight) for weight in self._weights()]

    @torch.no_grad()
    def before_epoch(self, epoch: int) -> None:
        if epoch == self._cut:
            self._cut_()
        elif 0 < epoch < self._cut:
            for number, weight in enumerate(self._weights()):
                self._z[number] = self._projected(number, weight + self._u[number])
                self._u[number] += weight - self._z[number]

    def extra_loss(self, model: nn.Module, step: int) -> Tensor | None:
        if step >= self._cut * self._steps_per_epoch:
            return None
        terms = [
            (stored_weight(module) - z + u).square().sum()
            for module, z, u in zip(self._modules, self._z, self._u, strict=True)
        ]
        return 0.5 * self.config.rho * torch.stack(terms).sum()

    def end(self) -> None:
        if not self._done:
            self._cut_()

    def settled(self, row: Row) -> bool:
        return self._done

    def state(self) -> dict[str, Tensor]:
        if self._done:
            return {"done": torch.ones((), dtype=torch.bool)}
        pairs = enumerate(zip(self._z, self._u, strict=True))
        return {f"{letter}.{n}": value for n, (z, u) in pairs for letter, value in (("z", z), ("u", u))}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._done = "done" in state
        for number in range(0 if self._done else len(self._layers)):
            self._z[number].copy_(state[f"z.{number}"])
            self._u[number].copy_(state[f"u.{number}"])

    def description(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json") | {"pattern": str(self.plan.pattern), "levels": self.plan.levels}

    def _weights(self) -> list[Tensor]:
        return [stored_weight(module).detach() for module in self._modules]

    def _projected(self, number: int, weight: Tensor) -> Tensor:
        return weight.masked_fill(~nearest_mask(weight, self._layers[number], self.plan), 0.0)

    def _cut_(self) -> None:
        for number, weight in enumerate(self._weights()):
            set_mask_(self._modules[number], nearest_mask(weight, self._layers[number], self.plan))
        self._done = True
