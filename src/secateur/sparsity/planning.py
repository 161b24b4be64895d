"""Planning: a level or a reason for every layer, from the target, the pattern and the allocation."""

from collections.abc import Iterable, Mapping

from torch import nn

from secateur.errors import SparsityError
from secateur.sparsity.allocation import AllocationBase, allocate
from secateur.sparsity.criterion import criteria
from secateur.sparsity.layers import Layer, layers_of
from secateur.sparsity.pattern import Pattern, Remainder, parse_pattern
from secateur.sparsity.plan import PlannedLayer, SparsityPlan
from secateur.sparsity.rounding import Rounding, Ties
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
        cap=cap if rule.fixed_level is None else min(cap, rule.fixed_level),
        given={name: level for name, level in given.items() if name in chosen},
        scale=scale,
        prunable={
            layer.name: rule.prunable(layer.filter_shape, layer.groups) for layer in layers if layer.name in chosen
        },
    )
    planned = tuple(
        _planned(layer, rule, rounding, allocated.levels.get(layer.name), allocated.skipped.get(layer.name))
        for layer in layers
    )
    return SparsityPlan(sparsity, base, rule, criterion, allocation, rounding, ties, planned, allocated.capped)


def _planned(layer: Layer, rule: Pattern, rounding: Rounding, level: float | None, reason: str | None) -> PlannedLayer:
    if level is None:
        return PlannedLayer(layer.name, layer.kind, layer.shape, layer.groups, None, 0, 0, reason)
    units = rule.units(layer.filter_shape, layer.groups)
    try:
        zeros = rule.zeros(layer.filter_shape, level, rounding, layer.groups)
    except SparsityError as error:
        raise SparsityError(f"{layer.name}: {error}") from error
    return PlannedLayer(layer.name, layer.kind, layer.shape, layer.groups, level, units, zeros)
