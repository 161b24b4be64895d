"""Scores from what flows through the layer on data.

    apoz                     1 - share of zeros in the filter's activation     (APoZ: average percentage of zeros)
    mean_activation          mean of the filter's activation: the least active filters go
    activation_magnitude     |w_ij| |x_j|_2, the root of the diagonal of the Gram matrix; also called wanda

The activation of a filter is max(y, 0), with y the layer's output behind its norm: what a ReLU there would give.
For activations that are not ReLU this is the convention, not their value.

Source: Hu et al. 2016 (APoZ); Molchanov et al. 2017 (mean activation); Sun et al. 2023 (Wanda).
"""

from torch import Tensor

from secateur.sparsity.criterion import ScoreInputs, score_rule


@score_rule("apoz", needs=["activations"], per="filter")
def apoz(inputs: ScoreInputs) -> Tensor:
    """Share of positive activations."""
    return 1 - inputs.activations.zero_share


@score_rule("mean_activation", needs=["activations"], per="filter")
def mean_activation(inputs: ScoreInputs) -> Tensor:
    """Mean activation."""
    return inputs.activations.mean_activation


@score_rule("activation_magnitude", "wanda", needs=["activations"])
def activation_magnitude(inputs: ScoreInputs) -> Tensor:
    """|w| times the norm of what it is multiplied with."""
    weight, square = inputs.weight.double(), inputs.activations.input_square
    groups, filters = inputs.groups, weight.shape[0] // inputs.groups
    norms = square.sqrt().reshape(groups, 1, *weight.shape[1:])
    return (weight.abs().reshape(groups, filters, *weight.shape[1:]) * norms).reshape(weight.shape)
