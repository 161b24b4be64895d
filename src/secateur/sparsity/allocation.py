"""Allocations: the sparsity of each layer, so that the total meets the target in its base.

    uniform    the same level for every layer that may be pruned
    erk        density eps * p_l, at most 1, with p_l = (sum shape_l / prod shape_l)^scale
               eps = [ sum_{not dense} (n_l - s n_l) - sum_{dense} s n_l ] / sum_{not dense} p_l n_l

Both are one problem: densities d_l = clip(eps * p_l, 1 - cap, 1) that keep a given number of weights; there is
one such eps. Marking layers dense while eps * max p_l > 1, as ERK is usually written, is the upper clip. The cap
is the lower one: what it cuts off is taken from the other layers, so that the total is met exactly. (ERK's source
rounds every s n_l down first; here whole groups are counted afterwards, so that uniform and ERK mean the same.)

With base conv_linear the excluded layers count as dense and the others are pruned harder; with base selected
the target holds among the layers that may be pruned. Layers with a given level are left out of both sums.

Source: Mocanu et al. 2018 and Evci et al. 2020 (RigL, section 3) for ERK; clipping from below is our own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from secateur.errors import SparsityError
from secateur.registry import Registry, unknown
from secateur.sparsity.layers import Layer

AllocationBase = Literal["conv_linear", "selected"]


@dataclass(frozen=True)
class Problem:
    """What an allocation has to solve.

    layers    those whose level is free
    reach     weights of each that the pattern can remove
    kept      how many of these must stay
    least     smallest density of one layer: 1 - cap
    scale     exponent of ERK
    """

    layers: tuple[Layer, ...]
    reach: tuple[int, ...]
    kept: float
    least: float
    scale: float


# Densities of the free layers, in their order.
Allocator = Callable[[Problem], list[float]]
allocations: Registry[Allocator] = Registry("allocation")


@allocations.register("uniform")
def uniform(problem: Problem) -> list[float]:
    """The same density everywhere."""
    return fill([1.0] * len(problem.layers), problem)


@allocations.register("erk")
def erk(problem: Problem) -> list[float]:
    """Erdős-Rényi-Kernel: small and narrow layers stay denser."""
    return fill([(sum(layer.shape) / math.prod(layer.shape)) ** problem.scale for layer in problem.layers], problem)


def fill(affinities: Sequence[float], problem: Problem) -> list[float]:
    """clip(eps * p_l, least, 1) with the eps that keeps the right number of weights.

    The sum grows piecewise linearly with eps: find the piece between two corners, then solve it.
    """
    if not affinities:
        return []

    def clipped(eps: float) -> list[float]:
        return [min(max(eps * p, problem.least), 1.0) for p in affinities]

    def total(eps: float) -> float:
        return sum(density * n for density, n in zip(clipped(eps), problem.reach, strict=True))

    corners = sorted({bound / p for p in affinities for bound in (problem.least, 1.0)})
    upper = next((corner for corner in corners if total(corner) >= problem.kept), corners[-1])
    lower = max((corner for corner in corners if corner < upper), default=0.0)
    rise = total(upper) - total(lower)
    share = (problem.kept - total(lower)) / rise if rise > 0 else 1.0
    return clipped(lower + min(max(share, 0.0), 1.0) * (upper - lower))


@dataclass(frozen=True)
class Allocation:
    """The level of each layer, a fraction of its groups of weights.

    levels      every layer that may be pruned
    achieved    the total they add up to in `base`, before whole groups are counted
    skipped     layers without a level, with the reason
    capped      layers that stand at the cap
    """

    levels: dict[str, float]
    achieved: float
    base: AllocationBase
    skipped: dict[str, str]
    capped: tuple[str, ...]


def allocate(
    layers: Sequence[Layer],
    sparsity: float,
    allocation: str = "uniform",
    *,
    base: AllocationBase = "conv_linear",
    excluded: Mapping[str, str] | None = None,
    cap: float = 0.99,
    given: Mapping[str, float] | None = None,
    scale: float = 1.0,
    prunable: Mapping[str, int] | None = None,
) -> Allocation:
    """Levels for `layers` that add up to `sparsity` in `base`.

    excluded    name -> reason of the layers that stay dense
    given       name -> level of layers whose level is fixed
    cap         the largest level of one layer; what it cuts off is taken from the others
    scale       exponent of ERK: 1, or 0.5
    prunable    name -> weights that the pattern can reach, where that is not all of them
    raises      SparsityError  target out of reach: says how far one can go, and what would help
    """
    excluded, given, prunable = excluded or {}, given or {}, prunable or {}
    if not 0.0 <= sparsity < 1.0:
        raise SparsityError(f"a target sparsity is at least 0 and below 1, not {sparsity}.")
    if not 0.0 < cap <= 1.0:
        raise SparsityError(f"a cap is above 0 and at most 1, not {cap}.")
    if base not in get_args(AllocationBase):
        raise SparsityError(unknown("base", base, get_args(AllocationBase)))
    solve = allocations[allocation]
    for name, level in given.items():
        if not 0.0 <= level <= 1.0:
            raise SparsityError(f"{name}: a level is a fraction from 0 to 1, not {level}.")
    free = [layer for layer in layers if layer.name not in excluded and layer.name not in given]
    reach = {layer.name: prunable.get(layer.name, layer.weights) for layer in layers}
    counted = [layer for layer in layers if layer.name not in given and (base == "conv_linear" or layer in free)]
    zeros = sparsity * sum(layer.weights for layer in counted)
    most = cap * sum(reach[layer.name] for layer in free)
    if zeros > most * (1 + 1e-12):
        raise SparsityError(_out_of_reach(sparsity, base, cap, most, counted, free, excluded))
    reachable = tuple(reach[layer.name] for layer in free)
    densities = solve(Problem(tuple(free), reachable, sum(reachable) - zeros, 1.0 - cap, scale))
    levels = {layer.name: 1.0 - density for layer, density in zip(free, densities, strict=True)}
    capped = tuple(name for name, level in levels.items() if level >= cap - 1e-9 and sparsity < cap)
    levels |= {layer.name: given[layer.name] for layer in layers if layer.name in given}
    ordered = {layer.name: levels[layer.name] for layer in layers if layer.name in levels}
    total = [layer for layer in layers if base == "conv_linear" or layer.name in ordered]
    removed = sum(ordered.get(layer.name, 0.0) * reach[layer.name] for layer in total)
    weights = sum(layer.weights for layer in total)
    skipped = {layer.name: excluded[layer.name] for layer in layers if layer.name not in ordered}
    return Allocation(ordered, removed / weights if weights else 0.0, base, skipped, capped)


def _out_of_reach(
    sparsity: float,
    base: str,
    cap: float,
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
    reached = math.floor(1e4 * most / weights) / 1e4 if weights else 0.0
    return (
        f"sparsity {sparsity:g} of the {weights:,} weights counted (base {base}) is out of reach: the "
        f"{len(free)} layers that may be pruned give at most {reached:.4f} with cap {cap:g}.{held} "
        f"Prune those too, raise the cap, choose base selected, or lower the target."
    )
