"""Criteria: one score per weight, larger = keep.

    magnitude   |w|      over a block: its L1 norm
    l2          w^2      over a block: its squared L2 norm; the same ranking as magnitude for single weights
    random      uniform  the baseline; every weight has the same chance, the count stays exact

A pattern combines the scores of a group. Scores never depend on the current mask.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from secateur.registry import Registry

Criterion = Callable[[Tensor, Generator], Tensor]
criteria: Registry[Criterion] = Registry("criterion")


@criteria.register("magnitude")
def magnitude(weight: Tensor, generator: Generator) -> Tensor:
    """|w|."""
    return weight.detach().abs()


@criteria.register("l2")
def l2(weight: Tensor, generator: Generator) -> Tensor:
    """w squared, in double precision: single precision loses the order of weights below 1e-19."""
    return weight.detach().double().square()


@criteria.register("random")
def random(weight: Tensor, generator: Generator) -> Tensor:
    """Uniform numbers from a generator on the CPU, so that the choice does not depend on the device."""
    return torch.rand(weight.shape, generator=generator, dtype=torch.float64).to(weight.device)
