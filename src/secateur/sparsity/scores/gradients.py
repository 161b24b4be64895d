"""Scores from how the loss depends on the weights; g = dL/dw of one image, w the weights at this moment.

    gradient_weight           |sum over the filter of E[g] w|
    gradient_weight-signed     sum over the unit of E[g] w              any pattern; Distiller's sign
    taylor                    E[(sum over the filter of g w)^2]
    taylor-abs                E[|sum over the filter of g w|]
    fisher                     sum over the unit of E[g^2] w^2           any pattern

The expectations over single images are gathered once, before weights go. Those of taylor hold the weights of that
time; the others take the weights as they are when scores are asked for.

Source: Molchanov et al. 2017 and 2019 (Taylor); Theis et al. 2018 (Fisher, here per weight); Distiller (signed).
"""

from torch import Tensor

from secateur.sparsity.criterion import ScoreInputs, score_rule


@score_rule("gradient_weight", needs=["gradients"], per="filter")
def gradient_weight(inputs: ScoreInputs) -> Tensor:
    """Size of the first-order change of the mean loss without the filter."""
    return (inputs.gradients.gradient * inputs.weight.double()).flatten(1).sum(dim=1).abs()


@score_rule("gradient_weight-signed", needs=["gradients"], combine="sum")
def gradient_weight_signed(inputs: ScoreInputs) -> Tensor:
    """First-order fall of the mean loss without the weight, with its sign."""
    return inputs.gradients.gradient * inputs.weight.double()


@score_rule("taylor", needs=["gradients"], per="filter")
def taylor(inputs: ScoreInputs) -> Tensor:
    """Mean square of the first-order change of each image's loss."""
    return inputs.gradients.filter_square


@score_rule("taylor-abs", needs=["gradients"], per="filter")
def taylor_abs(inputs: ScoreInputs) -> Tensor:
    """Mean size of the first-order change of each image's loss."""
    return inputs.gradients.filter_absolute


@score_rule("fisher", needs=["gradients"], combine="sum")
def fisher(inputs: ScoreInputs) -> Tensor:
    """Diagonal of the empirical Fisher matrix times w squared."""
    return inputs.gradients.gradient_square * inputs.weight.double().square()
