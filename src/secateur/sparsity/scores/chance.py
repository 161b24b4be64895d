"""Scores by chance: the baselines.

    random       u ~ U(0, 1)    every weight (or unit) has the same chance, the count stays exact
    bernoulli    every unit goes with the level as its chance, so the count varies; what stays is divided by its share,
                 so that sums of many weights stay what they were on average (the mask's scale)

Units are drawn themselves: means of the numbers of their weights would let small units win and lose more often than
large ones. Numbers come from a generator on the CPU, so that the choice does not depend on the device.

Source: the random pruners of Distiller and 1xN (which draws with replacement and removes too few).
"""

import torch
from torch import Tensor

from secateur.sparsity.criterion import ScoreInputs, score_rule


@score_rule("random", drawn="count")
def random(inputs: ScoreInputs) -> Tensor:
    """Uniform numbers."""
    drawn = torch.rand(inputs.weight.shape, generator=inputs.generator, dtype=torch.float64)
    return drawn.to(inputs.weight.device)


@score_rule("bernoulli", drawn="chance")
def bernoulli(inputs: ScoreInputs) -> Tensor:
    """Uniform numbers; the units are drawn by themselves."""
    return random(inputs)
