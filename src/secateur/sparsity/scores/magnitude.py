"""Scores from the weights alone, one by one.

    magnitude, l1    |w|      over a unit: mean |w|, the L1 norm per weight
    l1_norm          |w|      over a unit: sum |w|, the L1 norm itself
    l2               w^2      over a unit: mean w^2, the squared L2 norm per weight
    l2_norm          w^2      over a unit: sum w^2, which ranks as the L2 norm itself
    max              |w|      over a unit: max |w|

Among units of one size the mean and the sum rank alike. They differ for the short blocks at the edge of a weight,
and where the units of several layers are ranked together: the norms themselves favour large units.
"""

from torch import Tensor

from secateur.sparsity.criterion import ScoreInputs, score_rule


@score_rule("magnitude", "l1")
def magnitude(inputs: ScoreInputs) -> Tensor:
    """|w|."""
    return inputs.weight.abs()


@score_rule("l1_norm", combine="sum")
def l1_norm(inputs: ScoreInputs) -> Tensor:
    """|w|, added up."""
    return inputs.weight.abs()


@score_rule("l2")
def l2(inputs: ScoreInputs) -> Tensor:
    """w squared, in double precision: single precision loses the order of weights below 1e-19."""
    return inputs.weight.double().square()


@score_rule("l2_norm", combine="sum")
def l2_norm(inputs: ScoreInputs) -> Tensor:
    """w squared, added up."""
    return inputs.weight.double().square()


@score_rule("max", combine="max")
def largest(inputs: ScoreInputs) -> Tensor:
    """|w|, of which the largest counts."""
    return inputs.weight.abs()
