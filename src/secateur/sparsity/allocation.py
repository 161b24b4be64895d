"""Allocations: the sparsity of each layer, so that the total meets the target in its base.

    sum_l level_l n_l = target * (weights counted in the base)        0 <= level_l <= bound_l

An allocator is a function from a problem to one density per layer: one file in `allocators/`. What holds for all of
them is here: which layers are free, how many weights must go, and the largest level that a layer may get,

    bound_l = min(cap, 1 - floor, its own cap, target * level_max_factor, 1 - (1 - target) * density_min_factor)

Whatever a bound cuts off is taken from the other layers. With base conv_linear the excluded layers count as dense
and the others are pruned harder; with base selected the target holds among the layers that may be pruned. Layers
with a given level are left out of both sums.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from secateur.errors import SparsityError
from secateur.registry import unknown
from secateur.sparsity.allocation_options import AllocationOptions, check_level
from secateur.sparsity.allocation_problem import Facts, Problem, Trial, allocations, dense_rules, own_totals
from secateur.sparsity.layers import Layer
from secateur.sparsity.rounding import Ties

AllocationBase = Literal["conv_linear", "selected"]


@dataclass(frozen=True)
class Allocation:
    """The level of each layer, a fraction of its groups of weights.

    levels      every layer that may be pruned
    achieved    the total they add up to in `base`, before whole groups are counted
    skipped     layers without a level, with the reason
    capped      layers that stand at the largest level they may have
    bounds      the largest level of every layer; of one whose level is given, that
    trials      what an allocation that searches has tried, in order
    """

    levels: dict[str, float]
    achieved: float
    base: AllocationBase
    skipped: dict[str, str]
    capped: tuple[str, ...]
    bounds: dict[str, float]
    trials: tuple[Trial, ...] = ()


def allocate(
    layers: Sequence[Layer],
    sparsity: float | None,
    allocation: str = "uniform",
    *,
    base: AllocationBase = "conv_linear",
    excluded: Mapping[str, str] | None = None,
    given: Mapping[str, float] | None = None,
    prunable: Mapping[str, int] | None = None,
    caps: Mapping[str, float] | None = None,
    options: AllocationOptions | None = None,
    ties: Ties = "exact",
    facts: Facts | None = None,
) -> Allocation:
    """Levels for `layers` that add up to `sparsity` in `base`.

    sparsity    None for an allocation that brings a total of its own: listed, or sensitivity with a bound
    excluded    name -> reason of the layers that stay dense
    given       name -> level of layers whose level is fixed
    prunable    name -> weights that the pattern can reach, where that is not all of them
    caps        name -> largest level of single layers
    ties        threshold: global allocations remove everything up to a score, one group more than asked
    facts       weights and sizes, for the allocations that look into the network
    raises      SparsityError  target out of reach: says how far one can go, and what would help
                RecipeError    an unknown allocation
    """
    excluded, given, prunable, caps = dict(excluded or {}), given or {}, prunable or {}, caps or {}
    options = options or AllocationOptions()
    if sparsity is not None and not 0.0 <= sparsity < 1.0:
        raise SparsityError(f"a target sparsity is at least 0 and below 1, not {sparsity}.")
    if base not in get_args(AllocationBase):
        raise SparsityError(unknown("base", base, get_args(AllocationBase)))
    solve, has_own_total = allocations[allocation], own_totals.get(allocation, _never)(options)
    if sparsity is None and not has_own_total:
        raise SparsityError(f"allocation {allocation} needs a target sparsity.")
    for name, level in {**given, **caps}.items():
        check_level(name, level)
    stays_dense = dense_rules.get(allocation)
    for layer in layers:
        reason = stays_dense(layer, options) if stays_dense and layer.name not in given else None
        if reason is not None:
            excluded.setdefault(layer.name, reason)

    free = [layer for layer in layers if layer.name not in excluded and layer.name not in given]
    reach = {layer.name: prunable.get(layer.name, layer.weights) for layer in layers}
    counted = [layer for layer in layers if layer.name not in given and (base == "conv_linear" or layer in free)]
    bounds = [min(_bound(sparsity, options), caps.get(layer.name, 1.0)) for layer in free]
    zeros = None if sparsity is None or has_own_total else sparsity * sum(layer.weights for layer in counted)
    if zeros is not None:
        most = sum(bound * reach[layer.name] for bound, layer in zip(bounds, free, strict=True))
        if zeros > most * (1 + 1e-12):
            raise SparsityError(_out_of_reach(sparsity or 0.0, base, options, caps, most, counted, free, excluded))
    problem = Problem(
        layers=tuple(free),
        reach=tuple(reach[layer.name] for layer in free),
        least=tuple(1.0 - bound for bound in bounds),
        zeros=zeros,
        counted=sum(layer.weights for layer in counted),
        options=options,
        ties=ties,
        facts=facts,
    )
    densities = solve(problem)

    # A level of .3 comes back as 1 - .7; what fifteen decimals lose is no weight of any network.
    levels = {layer.name: round(1.0 - density, 15) for layer, density in zip(free, densities, strict=True)}
    capped = tuple(
        name
        for (name, level), bound in zip(levels.items(), bounds, strict=True)
        if level >= bound - 1e-9 and (sparsity is None or abs(sparsity - bound) > 1e-9)
    )
    fixed = {layer.name: given[layer.name] for layer in layers if layer.name in given}
    levels |= fixed
    ordered = {layer.name: levels[layer.name] for layer in layers if layer.name in levels}
    achieved = total_sparsity(layers, ordered, base, reach)
    if has_own_total and sparsity is not None and abs(achieved - sparsity) > options.tolerance:
        raise SparsityError(
            f"allocation {allocation} adds up to {achieved:.4f} of the weights counted (base {base}), not to "
            f"{sparsity:g}; leave the target out, or change the levels."
        )
    skipped = {layer.name: excluded[layer.name] for layer in layers if layer.name not in ordered}
    largest = fixed | {layer.name: bound for layer, bound in zip(free, bounds, strict=True)}
    return Allocation(ordered, achieved, base, skipped, capped, largest, tuple(problem.trials))


def total_sparsity(
    layers: Sequence[Layer],
    levels: Mapping[str, float],
    base: AllocationBase = "conv_linear",
    reach: Mapping[str, int] | None = None,
) -> float:
    """sum s_l n_l / sum n_l: what levels add up to.

    base     conv_linear counts every layer, selected those that have a level
    reach    name -> weights that the pattern can remove, where that is not all of them
    """
    reach = reach or {}
    counted = [layer for layer in layers if base == "conv_linear" or layer.name in levels]
    removed = sum(levels.get(layer.name, 0.0) * reach.get(layer.name, layer.weights) for layer in layers)
    weights = sum(layer.weights for layer in counted)
    return removed / weights if weights else 0.0


def _never(options: AllocationOptions) -> bool:
    return False


def _bound(sparsity: float | None, options: AllocationOptions) -> float:
    """The largest level that the options allow for any layer."""
    bound = min(options.cap, 1.0 - options.floor)
    if sparsity is not None and options.level_max_factor is not None:
        bound = min(bound, sparsity * options.level_max_factor)
    if sparsity is not None and options.density_min_factor is not None:
        bound = min(bound, 1.0 - (1.0 - sparsity) * options.density_min_factor)
    return max(bound, 0.0)


def _out_of_reach(
    sparsity: float,
    base: str,
    options: AllocationOptions,
    caps: Mapping[str, float],
    most: float,
    counted: Sequence[Layer],
    free: Sequence[Layer],
    excluded: Mapping[str, str],
) -> str:
    weights = sum(layer.weights for layer in counted)
    largest = sorted((layer for layer in counted if layer.name in excluded), key=lambda layer: -layer.weights)
    dense = ", ".join(f"{layer.name} ({layer.weights:,}: {excluded[layer.name]})" for layer in largest[:3])
    more = f", and {len(largest) - 3} more" if len(largest) > 3 else ""
    held = f" Dense are {dense}{more}." if dense else ""
    limits = [f"cap {options.cap:g}"]
    limits += [f"floor {options.floor:g}"] if options.floor else []
    for name in ("level_max_factor", "density_min_factor"):
        factor: float | None = getattr(options, name)
        limits += [] if factor is None else [f"{name} {factor:g}"]
    limits += ["caps of single layers"] if caps else []
    reached = math.floor(1e4 * most / weights) / 1e4 if weights else 0.0
    return (
        f"sparsity {sparsity:g} of the {weights:,} weights counted (base {base}) is out of reach: the "
        f"{len(free)} layers that may be pruned give at most {reached:.4f} with {', '.join(limits)}.{held} "
        f"Prune those too, raise the cap, choose base selected, or lower the target."
    )
