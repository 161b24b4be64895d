"""Making a network sparse: plan the levels, then choose masks at once or along a schedule.

    level of layer l at time t = plan level of l * s(t) / s_final

Masks are recomputed from the stored dense weights, so a removed weight may come back while the schedule
rises.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from zlib import crc32

import torch
from torch import nn

from secateur.errors import SparsityError
from secateur.sparsity.allocation import AllocationBase, allocate
from secateur.sparsity.criterion import criteria
from secateur.sparsity.layers import Layer, layers_of, stored_weight, unwrapped, weighted_modules
from secateur.sparsity.mask import attach_masks_, set_mask_
from secateur.sparsity.pattern import Pattern, Remainder, make_mask, parse_pattern
from secateur.sparsity.plan import PlannedLayer, SparsityPlan
from secateur.sparsity.rounding import Rounding, Ties, removed_count
from secateur.sparsity.schedule import OneShot, Schedule
from secateur.sparsity.selection import match_layers, select_layers


def plan_sparsity(
    model: nn.Module,
    sparsity: float,
    pattern: str | Pattern = "1x4",
    criterion: str = "magnitude",
    allocation: str = "uniform",
    base: AllocationBase = "conv_linear",
    *,
    remainder: Remainder = "short",
    include_first: bool = False,
    include_depthwise: bool = False,
    include_classifier: bool = False,
    exclude: Iterable[str] = (),
    min_weights: int = 0,
    levels: Mapping[str, float] | None = None,
    cap: float = 0.99,
    scale: float = 1.0,
    rounding: Rounding = "floor",
    ties: Ties = "exact",
) -> SparsityPlan:
    """A level or a reason for every layer of `model`; the model is not changed.

    sparsity    target fraction of zeros in `base`
    levels      name or glob -> level of single layers, also of the first convolution, depthwise layers and
                the classifier; a later entry overrides an earlier one; the target then holds for the other
                layers
    cap         the largest level of one layer
    scale       exponent of the erk allocation
    raises      SparsityError  target out of reach, a glob that matches nothing, an unknown pattern
                RecipeError    an unknown criterion or allocation
    """
    _ = criteria[criterion]
    rule = parse_pattern(pattern, remainder)
    layers = layers_of(model)
    given = {name: level for glob, level in (levels or {}).items() for name in match_layers(layers, glob)}
    selection = select_layers(
        model,
        rule,
        include_first=include_first,
        include_depthwise=include_depthwise,
        include_classifier=include_classifier,
        include=given,
        exclude=exclude,
        min_weights=min_weights,
    )
    chosen = set(selection.chosen)
    allocated = allocate(
        layers,
        sparsity,
        allocation,
        base=base,
        excluded=selection.skipped,
        cap=cap,
        given={name: level for name, level in given.items() if name in chosen},
        scale=scale,
        prunable={layer.name: rule.prunable(layer.shape, layer.groups) for layer in layers if layer.name in chosen},
    )
    planned = tuple(
        _planned(layer, rule, rounding, allocated.levels.get(layer.name), allocated.skipped.get(layer.name))
        for layer in layers
    )
    return SparsityPlan(sparsity, base, rule, criterion, allocation, rounding, ties, planned, allocated.capped)


class Sparsifier:
    """Keeps the masks of a network at the level that a schedule asks for.

    Building one gives the planned layers masks that keep everything. The same seed chooses the same weights
    on every device and every rank; random scores are drawn once per layer, so that rising levels give nested
    masks.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: SparsityPlan,
        schedule: Schedule | None = None,
        criterion: str | None = None,
        seed: int = 0,
    ) -> None:
        """schedule: one-shot when None; criterion: that of the plan when None. raises SparsityError."""
        self.model = unwrapped(model)
        self.plan = plan
        self.schedule = schedule or OneShot(plan.sparsity)
        self.criterion = criterion or plan.criterion
        self.seed = seed
        _ = criteria[self.criterion]
        _check_fits(self.model, plan)
        attach_masks_(self.model, plan.levels)

    def update_(self, position: int) -> bool:
        """Recompute the masks if they are due at this epoch or iteration.

        returns    whether masks were recomputed
        raises     SparsityError  weights that are not finite numbers, with the layer's name
        """
        if not self.schedule.due(position):
            return False
        final = self.schedule.final
        share = self.schedule.sparsity_at(position) / final if final else 1.0
        modules = weighted_modules(self.model)
        for layer in self.plan.layers:
            if layer.level is not None:
                self._choose_(modules[layer.name], layer, layer.level * share)
        return True

    @torch.no_grad()
    def _choose_(self, module: nn.Module, layer: PlannedLayer, level: float) -> None:
        # One number of 32 bits per seed and layer: the generator ignores everything above them.
        generator = torch.Generator().manual_seed(crc32(f"{self.seed} {layer.name}".encode()))
        scores = criteria[self.criterion](stored_weight(module), generator)
        plan = self.plan
        try:
            mask = make_mask(scores, plan.pattern, level, plan.rounding, ties=plan.ties, groups=layer.groups)
        except SparsityError as error:
            raise SparsityError(f"{layer.name}: {error}") from error
        set_mask_(module, mask)


def sparsify_(
    model: nn.Module,
    sparsity: float = 0.8,
    pattern: str | Pattern = "1x4",
    criterion: str = "magnitude",
    allocation: str = "uniform",
    base: AllocationBase = "conv_linear",
    *,
    seed: int = 0,
    **options: Any,
) -> SparsityPlan:
    """Remove weights of `model` at once; masks stay attached, so that training keeps the zeros.

    options    as in `plan_sparsity`
    returns    the plan that was carried out; `fold_masks_` makes the zeros permanent
    raises     SparsityError
    """
    plan = plan_sparsity(model, sparsity, pattern, criterion, allocation, base, **options)
    Sparsifier(model, plan, seed=seed).update_(0)
    return plan


def _planned(layer: Layer, rule: Pattern, rounding: Rounding, level: float | None, reason: str | None) -> PlannedLayer:
    if level is None:
        return PlannedLayer(layer.name, layer.kind, layer.shape, layer.groups, None, 0, 0, reason)
    units = rule.units(layer.shape, layer.groups)
    removed = removed_count(units, level, rounding)
    zeros = removed * rule.prunable(layer.shape, layer.groups) // units if units else 0
    return PlannedLayer(layer.name, layer.kind, layer.shape, layer.groups, level, units, zeros)


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
