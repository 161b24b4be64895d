"""Planning: a level or a reason for every layer, from the target, the pattern and the allocation."""

from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from secateur.errors import SparsityError
from secateur.sparsity.allocation import Allocation, AllocationBase, allocate
from secateur.sparsity.allocation_options import AllocationOptions
from secateur.sparsity.allocation_problem import Facts
from secateur.sparsity.hardware_cap import LayerSeconds, hardware_cap
from secateur.sparsity.layers import Layer, layers_of
from secateur.sparsity.network_facts import NetworkFacts
from secateur.sparsity.pattern import Pattern, Remainder, parse_pattern
from secateur.sparsity.plan import PlannedLayer, SparsityPlan
from secateur.sparsity.rounding import Rounding, Ties
from secateur.sparsity.scoring import Scoring
from secateur.sparsity.selection import ExcludedKind, match_layers, select_layers


def plan_sparsity(
    network: nn.Module | Sequence[Layer],
    sparsity: float | None = None,
    pattern: str | Pattern = "1x4",
    criterion: str = "magnitude",
    allocation: str = "uniform",
    base: AllocationBase = "conv_linear",
    *,
    remainder: Remainder = "short",
    include_first: bool = False,
    include_depthwise: bool = False,
    include_classifier: bool = False,
    only: Iterable[str] = (),
    exclude: Iterable[str] = (),
    exclude_kinds: Iterable[ExcludedKind] = (),
    min_weights: int = 0,
    levels: Mapping[str, float] | None = None,
    options: AllocationOptions | None = None,
    hardware: LayerSeconds | None = None,
    rounding: Rounding = "floor",
    ties: Ties = "exact",
    facts: Facts | None = None,
) -> SparsityPlan:
    """A level or a reason for every layer of `network`, which is not changed.

    network     or its layers in order of definition, those of an ONNX file for instance
    sparsity    target fraction of zeros in `base`. None where something else decides: a pattern with one level
                (2:4), allocation listed, allocation sensitivity with a bound
    only        names or globs of the layers to prune; by default all
    levels      name or glob -> level of single layers, also of the first convolution, depthwise layers and
                the classifier; a later entry overrides an earlier one; the target then holds for the other
                layers
    options     bounds, and what single allocations can be told
    hardware    measured times: no layer gets sparser than makes it faster, and one that gains nothing stays dense
    facts       of layers that are given without their network, for the allocations that look into it
    raises      SparsityError  target out of reach, a glob that matches nothing, an unknown pattern
                RecipeError    an unknown criterion or allocation
    """
    rule = parse_pattern(pattern, remainder)
    Scoring(criterion).check(rule)
    if isinstance(network, nn.Module):
        layers, facts = layers_of(network), facts or NetworkFacts(network, rule)
    else:
        layers = tuple(network)
    given = {name: level for glob, level in (levels or {}).items() for name in match_layers(layers, glob)}
    selection = select_layers(
        layers,
        rule,
        include_first=include_first,
        include_depthwise=include_depthwise,
        include_classifier=include_classifier,
        include=given,
        only=only,
        exclude=exclude,
        exclude_kinds=exclude_kinds,
        min_weights=min_weights,
    )
    given = {name: level for name, level in given.items() if name in selection.chosen}
    reach = {
        layer.name: rule.prunable(layer.filter_shape, layer.groups)
        for layer in layers
        if layer.name in selection.chosen
    }
    useful = hardware_cap(hardware) if hardware else None
    excluded = {name: reason for name, reason in (useful.dense if useful else {}).items() if name not in given}
    excluded |= selection.skipped
    if rule.fixed_level is not None:
        allocated = _fixed(layers, rule, sparsity, allocation, base, excluded, given, reach)
    else:
        allocated = allocate(
            layers,
            sparsity,
            allocation,
            base=base,
            excluded=excluded,
            given=given,
            prunable=reach,
            caps={name: cap for name, cap in (useful.caps if useful else {}).items() if name not in given},
            options=options,
            ties=ties,
            facts=facts,
        )
    planned = tuple(_planned(layer, rule, rounding, allocated, layer.name in given) for layer in layers)
    target = _target(sparsity, rule, allocated)
    return SparsityPlan(
        target,
        base,
        rule,
        criterion,
        allocation,
        rounding,
        ties,
        planned,
        allocated.capped,
        tuple((trial.setting, trial.achieved) for trial in allocated.trials),
    )


def _fixed(
    layers: tuple[Layer, ...],
    rule: Pattern,
    sparsity: float | None,
    allocation: str,
    base: AllocationBase,
    excluded: Mapping[str, str],
    given: Mapping[str, float],
    reach: Mapping[str, int],
) -> Allocation:
    """A pattern with one level: every layer that can have it gets that level."""
    level = rule.fixed_level or 0.0
    if not reach:
        raise SparsityError(f"no layer can have the pattern {rule}: all are left dense.")
    if sparsity is not None and abs(sparsity - level) > 1e-9:
        raise SparsityError(
            f"{rule} removes {level:g} of every layer it is applied to, not {sparsity:g}; leave it out."
        )
    if allocation not in ("uniform", "listed"):
        raise SparsityError(f"{rule} has one level, {level:g}, so that allocation {allocation} has nothing to choose.")
    free = (layer.name for layer in layers if layer.name not in excluded and layer.name not in given)
    everywhere = {} if allocation == "listed" else dict.fromkeys(free, level)
    return allocate(layers, None, "listed", base=base, excluded=excluded, given={**everywhere, **given}, prunable=reach)


def _target(sparsity: float | None, rule: Pattern, allocated: Allocation) -> float:
    """What the schedule ends at, and what the plan says was asked."""
    if sparsity is not None:
        return sparsity
    return allocated.achieved if rule.fixed_level is None else rule.fixed_level


def _planned(layer: Layer, rule: Pattern, rounding: Rounding, allocated: Allocation, fixed: bool) -> PlannedLayer:
    level = allocated.levels.get(layer.name)
    if level is None:
        reason = allocated.skipped.get(layer.name)
        return PlannedLayer(layer.name, layer.kind, layer.shape, layer.groups, None, 0, 0, reason)
    units = rule.units(layer.filter_shape, layer.groups)
    try:
        zeros = rule.zeros(layer.filter_shape, level, rounding, layer.groups)
    except SparsityError as error:
        raise SparsityError(f"{layer.name}: {error}") from error
    bound = allocated.bounds[layer.name]
    return PlannedLayer(layer.name, layer.kind, layer.shape, layer.groups, level, units, zeros, None, bound, fixed)
