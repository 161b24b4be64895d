"""The units of the planned layers: what a method scores, keeps and removes.

scores     one number per unit and layer; the whole network competes
removed    units with the lowest scores, as long as their weights together are at most the zeros of the plan;
           in every layer the highest units stay that the plan's bound of the layer leaves, at least LEAST_KEPT of
           them and one, so that no layer dies
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from secateur.errors import SparsityError
from secateur.sparsity import (
    Mask,
    Pattern,
    PlannedLayer,
    SparsityPlan,
    Tiles,
    as_stored,
    attach_masks_,
    filters_first,
    set_mask_,
    stored_weight,
    unwrapped,
)
from secateur.sparsity.layers import weighted_modules

LEAST_KEPT = 0.01


@dataclass(frozen=True)
class Units:
    """The units of one layer.

    owner    the unit that each weight belongs to, in the weight's own shape; -1 where a weight belongs to none
    sizes    weights of every unit, float64
    """

    layer: PlannedLayer
    module: nn.Module
    pattern: Pattern
    owner: Tensor
    sizes: Tensor

    @property
    def weight(self) -> nn.Parameter:
        """The dense tensor behind the mask."""
        return cast(nn.Parameter, stored_weight(self.module))

    @property
    def mask(self) -> Mask:
        """The parametrization that holds the mask."""
        chain = cast(nn.ModuleDict, self.module.parametrizations)["weight"]
        return next(step for step in chain.children() if isinstance(step, Mask))

    def mean_of(self, values: Tensor) -> Tensor:
        """(units,) mean over every unit of one number per weight, float64."""
        layer = self.layer
        return self.pattern.group_scores(filters_first(values, layer.kind, layer.groups), layer.groups).double()

    def spread(self, values: Tensor, outside: float) -> Tensor:
        """One number per weight: that of its unit, or `outside` where it belongs to none; differentiable."""
        if self.owner.numel() == values.numel() and self.layer.kind != "conv_transpose":
            return values.reshape(self.owner.shape)
        filled = torch.cat([values, values.new_tensor([outside])])
        return filled[self.owner]

    def keep_(self, kept: Tensor) -> None:
        """Make these units (boolean, True = kept) the mask of the layer."""
        set_mask_(self.module, self.spread(kept.float(), 1.0) > 0)


def units_of(model: nn.Module, plan: SparsityPlan, method: str, *, competing: bool = True) -> tuple[Units, ...]:
    """The units of every layer that `plan` prunes; gives those layers masks that keep everything.

    competing    the method's own ranking of the whole network takes the place of levels
    raises       SparsityError  a pattern whose units do not compete across the network (N:M), levels of single layers
                 where all compete, or another model's plan
    """
    fixed = [layer.name for layer in plan.layers if layer.fixed]
    if competing and fixed:
        raise SparsityError(
            f"{fixed[0]}: has a level of its own, but method {method} lets the units of all layers compete; leave its "
            f"level out, or exclude the layer."
        )
    if not isinstance(plan.pattern, Tiles):
        raise SparsityError(
            f"method {method} lets the units of the whole network compete, and {plan.pattern} fixes how many stay in "
            f"each group; use unstructured or a pattern of blocks, or method admm."
        )
    inner = unwrapped(model)
    attach_masks_(inner, plan.levels)
    modules = weighted_modules(inner)
    return tuple(_units(modules[layer.name], layer, plan.pattern) for layer in plan.layers if layer.level is not None)


def _units(module: nn.Module, layer: PlannedLayer, pattern: Pattern) -> Units:
    weight = stored_weight(module)
    zeros = torch.zeros_like(filters_first(weight, layer.kind, layer.groups))
    count = pattern.group_scores(zeros, layer.groups).numel()
    numbers, owner = torch.arange(count, device=weight.device), torch.zeros_like(zeros, dtype=torch.int64)
    # Which unit a weight belongs to, one binary digit at a time: all that a pattern says is what a choice means.
    for bit in range(max(count - 1, 1).bit_length()):
        owner += pattern.mask_of((numbers >> bit) % 2 == 1, zeros, layer.groups).long() << bit
    owner[pattern.mask_of(torch.zeros_like(numbers, dtype=torch.bool), zeros, layer.groups)] = -1
    sizes = torch.bincount(owner[owner >= 0], minlength=count).double()
    return Units(layer, module, pattern, as_stored(owner, layer.kind, layer.groups), sizes)


def catch(units: Sequence[Units], change: Callable[[int, Tensor], Tensor]) -> list[torch.utils.hooks.RemovableHandle]:
    """Let every layer compute with `change(number of the layer, masked weight)` until the handles are removed."""

    def hook(number: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        return lambda mask, inputs, output: change(number, output)

    return [unit.mask.register_forward_hook(hook(number)) for number, unit in enumerate(units)]


def lowest(units: Sequence[Units], scores: Sequence[Tensor], zeros: int) -> list[Tensor]:
    """Which units stay, layer by layer: the lowest scores of the whole network go, `zeros` weights at the most.

    scores    one per unit, larger = keep; equal ones go in order of layer and index
    """
    guarded = [
        score.double().index_fill(0, _highest(score, unit.layer.bound), torch.inf)
        for unit, score in zip(units, scores, strict=True)
    ]
    joined, sizes = torch.cat(guarded), torch.cat([unit.sizes for unit in units])
    order = torch.argsort(joined, stable=True)
    count = int((sizes[order].cumsum(0) <= zeros).sum())
    kept = torch.ones_like(joined, dtype=torch.bool)
    kept[order[:count]] = False
    kept |= joined == torch.inf
    return list(kept.split([len(score) for score in scores]))


def prune_to_(units: Sequence[Units], scores: Sequence[Tensor], zeros: int) -> None:
    """Give the layers the masks that `lowest` chooses."""
    for unit, kept in zip(units, lowest(units, scores, zeros), strict=True):
        unit.keep_(kept)


def _highest(score: Tensor, bound: float) -> Tensor:
    count = max(1, math.ceil(max(LEAST_KEPT, 1 - bound) * len(score) - 1e-6))
    return torch.argsort(score, descending=True, stable=True)[:count]
