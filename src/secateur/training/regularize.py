"""Regularisers: penalties that make weights, or whole groups of weights, small while a network is trained.

    l1               strength * sum |w|
    group_lasso      strength * sum over the groups of |w_g|_2
    group_variance   strength / variance of the groups' norms (over the number of groups less one)

    kernel   W[o, i, :, :]     filter  W[o, :, :, :]     channel  W[:, i, :, :]     layer  W
    row      W[:, i] and column W[o, :] of linear layers;  a + b is the sum of both penalties

With a threshold, after each step all weights of a group become zero whose largest or mean |w| lies below the strength
(of l1: every weight by itself); with keep_mask they stay removed, as ordinary masks.

Source: Wen et al. 2016 (group lasso); Distiller for the groups and the thresholds.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from secateur.errors import TrainingError
from secateur.recipe import Regularizer
from secateur.sparsity import (
    Layer,
    as_stored,
    attach_masks_,
    filters_first,
    layers_of,
    masks,
    match_layers,
    stored_weight,
    unwrapped,
)
from secateur.sparsity.layers import weighted_modules
from secateur.training.hooks import Hook, Scene

# Dimensions of a weight, filter first, that remain when a group becomes one number.
REMAINING = {"kernel": (0, 1), "filter": (0,), "channel": (1,), "row": (1,), "column": (0,), "layer": ()}
LINEAR_ONLY = ("row", "column")


def group_norms(weight: Tensor, group: str) -> Tensor:
    """The L2 norm of every group of a weight, filter first; groups joined by + one after the other."""
    return torch.cat([_norms(weight, part) for part in group.split("+")])


def penalty(weight: Tensor, kind: str, group: str) -> Tensor:
    """The penalty of one weight, filter first, at strength 1."""
    if kind == "l1":
        return weight.abs().sum()
    norms = group_norms(weight, group)
    return norms.sum() if kind == "group_lasso" else 1.0 / norms.var()


def above(weight: Tensor, kind: str, group: str, threshold: str, strength: float) -> Tensor:
    """Boolean, of the weight's shape: whether a weight's groups reach the strength; of joined groups, all of them."""
    size = weight.detach().abs()
    stays = torch.ones_like(size, dtype=torch.bool)
    for part in group.split("+") if kind != "l1" else ("weight",):
        within = () if part == "weight" else _within(weight, part)
        if not within:
            value = size
        elif threshold == "max":
            value = size.amax(within, keepdim=True)
        else:
            value = size.mean(within, keepdim=True)
        stays = stays & (value >= strength)
    return stays


class Regularization(Hook):
    """One regulariser of a recipe."""

    def __init__(self, config: Regularizer) -> None:
        self.config = config

    def begin(self, scene: Scene) -> None:
        model = unwrapped(scene.model)
        self._layers = layers_for(model, self.config)
        modules = weighted_modules(model)
        self._modules = [modules[layer.name] for layer in self._layers]
        self._alive: list[Tensor] = []
        if self.config.keep_mask:
            attach_masks_(model, [layer.name for layer in self._layers])
            self._masks = masks(model)
            self._alive = [torch.ones_like(self._masks[layer.name]) for layer in self._layers]

    def before_step(self, step: int) -> None:
        for layer, alive in zip(self._layers, self._alive, strict=False):
            self._masks[layer.name].logical_and_(alive)

    def extra_loss(self, model: nn.Module, step: int) -> Tensor | None:
        terms = [
            penalty(_first(cast(Tensor, module.weight), layer), self.config.kind, self.config.group)
            for layer, module in zip(self._layers, self._modules, strict=True)
        ]
        return self.config.strength * torch.stack(terms).sum()

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        config = self.config
        if config.threshold is None:
            return
        for number, (layer, module) in enumerate(zip(self._layers, self._modules, strict=True)):
            weight = _first(cast(Tensor, module.weight), layer)
            stays = above(weight, config.kind, config.group, config.threshold, config.strength)
            stays = as_stored(stays, layer.kind, layer.groups)
            stored_weight(module).masked_fill_(~stays, 0.0)
            if self._alive:
                self._alive[number].logical_and_(stays)
                self._masks[layer.name].logical_and_(stays)

    def state(self) -> dict[str, Tensor]:
        return {str(number): alive for number, alive in enumerate(self._alive)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        for number, alive in enumerate(self._alive):
            if str(number) in state:
                alive.copy_(state[str(number)])

    def description(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json")


def layers_for(model: nn.Module, config: Regularizer) -> tuple[Layer, ...]:
    """The layers that a regulariser means and can work on. raises SparsityError, TrainingError when there are none."""
    every = layers_of(model)
    wanted = {name for glob in config.layers for name in match_layers(every, glob)}
    parts = () if config.kind == "l1" else config.group.split("+")
    fitting = tuple(
        layer
        for layer in every
        if layer.name in wanted
        and not (layer.kind != "linear" and any(part in LINEAR_ONLY for part in parts))
        and not (config.kind == "drop_filter" and layer.kind == "linear")
    )
    if not fitting:
        raise TrainingError(
            f"regulariser {config.kind}: none of the layers {', '.join(sorted(wanted))} has groups of kind "
            f"'{config.group}'; rows and columns are those of linear layers, dropped filters those of convolutions."
        )
    if config.kind == "group_variance" and any(_groups(layer, config.group) < 2 for layer in fitting):
        raise TrainingError("regulariser group_variance: a layer of one group has no variance; choose smaller groups.")
    return fitting


def _groups(layer: Layer, group: str) -> int:
    return group_norms(torch.zeros(layer.filter_shape), group).numel()


def _norms(weight: Tensor, group: str) -> Tensor:
    within = _within(weight, group)
    # Kernels of linear layers are single weights.
    return torch.linalg.vector_norm(weight, dim=within).flatten() if within else weight.abs().flatten()


def _within(weight: Tensor, group: str) -> tuple[int, ...]:
    """The dimensions that a group extends over."""
    return tuple(axis for axis in range(weight.ndim) if axis not in REMAINING[group])


def _first(weight: Tensor, layer: Layer) -> Tensor:
    return filters_first(weight, layer.kind, layer.groups)
