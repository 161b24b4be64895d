"""What a network may cost: a sparsity, a number of a cost, or a share of what the dense network costs.

Sparsity is that of all convolution and linear layers (base conv_linear, as in `secateur.sparsity.allocation`), layers
that stay dense included; with base `selected` only of those that may change.
"""

import math
from dataclasses import dataclass
from typing import get_args

from secateur.errors import PosttrainingError
from secateur.posttraining.costs import UNITS, CostKind
from secateur.registry import unknown
from secateur.sparsity import AllocationBase


@dataclass(frozen=True)
class Target:
    """What the network may cost.

    value       sparsity: the least fraction of zeros; otherwise the most it may cost, in parameters, MACs, bytes or
                seconds of one inference as the tables were measured
    relative    value is a share of what the dense network costs
    base        of a sparsity
    raises      PosttrainingError  a kind that does not exist, a value that cannot be
    """

    kind: CostKind
    value: float
    relative: bool = False
    base: AllocationBase = "conv_linear"

    def __post_init__(self) -> None:
        if self.kind not in get_args(CostKind):
            raise PosttrainingError(unknown("kind of cost", self.kind, get_args(CostKind)))
        if self.base not in get_args(AllocationBase):
            raise PosttrainingError(unknown("base", self.base, get_args(AllocationBase)))
        share = self.kind == "sparsity" or self.relative
        if not (0.0 <= self.value < math.inf) or (share and self.value > 1.0):
            raise PosttrainingError(
                f"a target of {self.value} {UNITS[self.kind]} makes no sense: a sparsity or share is a fraction from 0 "
                "to 1, a cost a number of at least 0."
            )
        if self.kind == "sparsity" and self.relative:
            raise PosttrainingError("a target sparsity is a share already; leave relative out.")

    def __str__(self) -> str:
        if self.kind == "sparsity":
            return f"sparsity {self.value:g} (base {self.base})"
        if self.relative:
            return f"{self.value:.2%} of the dense {UNITS[self.kind]}"
        return cost_text(self.kind, self.value)


def cost_text(kind: CostKind, value: float, *, unit: bool = True) -> str:
    """A cost as people write it."""
    if kind == "seconds":
        return f"{1e3 * value:.4g} ms" if unit else f"{value:.4g}"
    return f"{value:,.0f} {UNITS[kind]}" if unit else f"{value:,.0f}"
