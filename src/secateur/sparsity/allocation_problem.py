"""What an allocator gets and gives, and the registry of allocators.

    @allocations.register("later")
    def later(problem: Problem) -> list[float]:                 densities of problem.layers, in their order
        return fill([1 / (1 + i) for i in range(len(problem.layers))], problem)

`fill` scales any affinities so that the right number of weights goes and every bound holds:

    density_l = clip(eps * affinity_l, least_l, 1)        with the one eps that keeps the right number of weights
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from secateur.errors import SparsityError
from secateur.registry import Registry
from secateur.sparsity.allocation_options import AllocationOptions
from secateur.sparsity.layers import Layer
from secateur.sparsity.rounding import Ties


class Facts(Protocol):
    """What an allocator may ask about the network."""

    def weight(self, name: str) -> Tensor:
        """The dense weights of a layer."""
        ...

    def group_scores(self, name: str, scores: Tensor) -> Tensor:
        """From one score per weight to one per group of weights that the pattern removes together: their mean."""
        ...

    def halvings(self) -> Mapping[str, int]:
        """Convolution -> ceil(log2(side of the network's input / side of the convolution's input))."""
        ...


@dataclass(frozen=True)
class Trial:
    """A setting that a search tried, and the sparsity that it gave in the base."""

    setting: float
    achieved: float


@dataclass(frozen=True)
class Problem:
    """What an allocator has to solve.

    layers      those whose level is free
    reach       weights of each that the pattern can remove
    least       smallest density of each
    zeros       weights that must go; None where no target is given
    counted     weights that the target is a fraction of
    ties        exact, or threshold: everything up to a score goes
    facts       None where nothing but shapes is known
    trials      where an allocator that searches writes what it tried
    """

    layers: tuple[Layer, ...]
    reach: tuple[int, ...]
    least: tuple[float, ...]
    zeros: float | None
    counted: int
    options: AllocationOptions = field(default_factory=AllocationOptions)
    ties: Ties = "exact"
    facts: Facts | None = None
    trials: list[Trial] = field(default_factory=list[Trial])

    @property
    def goal(self) -> float:
        """Weights that must go. raises SparsityError where no target is given."""
        if self.zeros is None:
            raise SparsityError("this allocation needs a target sparsity.")
        return self.zeros

    @property
    def bounds(self) -> tuple[float, ...]:
        """Largest level of each layer."""
        return tuple(1.0 - least for least in self.least)

    def known(self, allocation: str) -> Facts:
        """The facts. raises SparsityError where there are none."""
        if self.facts is None:
            raise SparsityError(f"allocation {allocation} looks into the network; plan it with plan_sparsity.")
        return self.facts

    def removed(self, levels: Sequence[float]) -> float:
        """Weights that go at these levels."""
        return sum(level * n for level, n in zip(levels, self.reach, strict=True))


Allocator = Callable[[Problem], list[float]]
allocations: Registry[Allocator] = Registry("allocation")

# allocation -> why it leaves a layer dense, or None; such a layer is excluded before anything is counted.
dense_rules: dict[str, Callable[[Layer, AllocationOptions], str | None]] = {}
# allocation -> whether it brings a total of its own, so that it needs no target.
own_totals: dict[str, Callable[[AllocationOptions], bool]] = {}


def fill(affinities: Sequence[float], problem: Problem) -> list[float]:
    """Densities clip(eps * affinity, least, 1) with the eps that keeps the right number of weights."""
    return scaled(affinities, problem.reach, problem.least, [1.0] * len(affinities), sum(problem.reach) - problem.goal)


def scaled(
    affinities: Sequence[float],
    amounts: Sequence[int],
    lower: Sequence[float],
    upper: Sequence[float],
    total: float,
) -> list[float]:
    """clip(eps * affinity, lower, upper) with the eps at which sum(amount * share) is `total`.

    The sum grows piecewise linearly with eps: find the piece between two corners, then solve it.
    """
    if not affinities:
        return []

    def clipped(eps: float) -> list[float]:
        return [min(max(eps * p, low), high) for p, low, high in zip(affinities, lower, upper, strict=True)]

    def amount(eps: float) -> float:
        return sum(share * n for share, n in zip(clipped(eps), amounts, strict=True))

    edges = zip(affinities, lower, upper, strict=True)
    corners = sorted({0.0} | {bound / p for p, low, high in edges for bound in (low, high) if p > 0})
    above = next((corner for corner in corners if amount(corner) >= total), corners[-1])
    below = max((corner for corner in corners if corner < above), default=0.0)
    rise = amount(above) - amount(below)
    share = (total - amount(below)) / rise if rise > 0 else 1.0
    return clipped(below + min(max(share, 0.0), 1.0) * (above - below))
