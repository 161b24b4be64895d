"""Scores from the batch norm that follows: |gamma|, meant for networks trained with an L1 penalty on gamma.

Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming".
"""

from torch import Tensor

from secateur.errors import SparsityError
from secateur.sparsity.criterion import ScoreInputs, score_rule


@score_rule("bn_scale", needs=["norm"], per="filter")
def bn_scale(inputs: ScoreInputs) -> Tensor:
    """Size of the scale that the filter's output is multiplied with. raises SparsityError without such a norm."""
    if inputs.norm is None:
        raise SparsityError(
            "no batch norm follows it, so criterion bn_scale has no scale to look at; exclude the layer."
        )
    return inputs.norm.gamma.abs()
