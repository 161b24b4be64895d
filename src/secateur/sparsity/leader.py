"""One layer decides for others: the groups that go from the leader go from all layers that follow it.

Layers whose outputs a sum joins can lose channels only together; Distiller lets the first of a list decide
(`group_dependency: Leader`).

    kept(unit) of every follower = kept(unit) of the leader

Source: Distiller.
"""

import torch
from torch import nn

from secateur.errors import SparsityError
from secateur.sparsity.layers import as_stored, filters_first, stored_weight, weighted_modules
from secateur.sparsity.mask import masks, set_mask_
from secateur.sparsity.plan import PlannedLayer, SparsityPlan
from secateur.sparsity.tiles import Tiles


def check_leader(plan: SparsityPlan, leader: str) -> None:
    """raises    SparsityError  a leader that is not pruned, a pattern without groups that others could follow, and a
    follower with another number of groups or another level
    """
    if not isinstance(plan.pattern, Tiles):
        raise SparsityError(
            f"{plan.pattern} keeps as many weights of every group, so that no layer can lead; leave the leader out, or "
            f"take filters or channels."
        )
    pruned = {layer.name: layer for layer in plan.layers if layer.level is not None}
    if leader not in pruned:
        raise SparsityError(f"{leader}: cannot lead, for it is not pruned; pruned are {', '.join(pruned) or 'none'}.")
    for name, layer in pruned.items():
        if layer.units != pruned[leader].units:
            raise SparsityError(
                f"{name}: has {layer.units} groups of pattern {plan.pattern}, but its leader {leader} has "
                f"{pruned[leader].units}; only layers of as many can follow it."
            )
        if abs((layer.level or 0.0) - (pruned[leader].level or 0.0)) * layer.units > 0.5:
            raise SparsityError(
                f"{name}: is planned at level {layer.level:.4g}, but its leader {leader} decides for it at "
                f"{pruned[leader].level:.4g}; take allocation uniform, or one level for all of them."
            )


@torch.no_grad()
def follow_leader_(model: nn.Module, plan: SparsityPlan, leader: str) -> None:
    """Give every planned layer the groups that the leader's mask keeps."""
    modules, found = weighted_modules(model), masks(model)
    layers = {layer.name: layer for layer in plan.layers if layer.level is not None}
    first = layers[leader]
    mask = filters_first(found[leader], first.kind, first.groups)
    kept = plan.pattern.group_scores(mask.float(), first.groups, "max") > 0
    for name, layer in layers.items():
        if name != leader:
            _follow_(modules[name], layer, plan, kept)


def _follow_(module: nn.Module, layer: PlannedLayer, plan: SparsityPlan, kept: torch.Tensor) -> None:
    shape = filters_first(stored_weight(module), layer.kind, layer.groups)
    mask = plan.pattern.mask_of(kept, torch.zeros_like(shape), layer.groups)
    set_mask_(module, as_stored(mask, layer.kind, layer.groups))
