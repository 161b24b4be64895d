"""One layer as a least-squares problem, and what a solution of it is worth.

    error(W^) = sum over rows (w - w^) A (w - w^)^T / sum over rows w A w^T        A not damped

With the centred Gram matrix (A - mean mean^T) that is the share of the output's variance that is lost when the bias
takes the mean: b' = b + (W - W^) mean, the joint optimum over weights and bias.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from secateur.errors import PosttrainingError
from secateur.posttraining.gram import Gram
from secateur.posttraining.inverse import Inverse, inverse_of


@dataclass(frozen=True)
class Compressed:
    """Weights of one layer with zeros, and what they cost.

    weight    filter first, float32, exact zeros where removed
    mask      True = kept, of the same shape
    error     relative squared error of the output
    level     the fraction that was asked for
    shift     (C_out,) to be added to the bias, of the centred option
    """

    weight: Tensor
    mask: Tensor
    error: float
    level: float
    shift: Tensor | None = None


@dataclass(frozen=True)
class Problem:
    """The rows of a layer and the Gram matrices that they are judged by.

    weight     (groups, rows, d) float64
    matrix     (groups, d, d) float64, centred if asked for
    mean       (groups, d) float64, or None: no shift
    shape      of the layer's weight, filter first
    damping    of the inverse
    scale      (groups, rows, 1) float64: rows are that many times what the layer has, so that their errors compare as
               their outputs matter
    """

    weight: Tensor
    matrix: Tensor
    mean: Tensor | None
    shape: tuple[int, ...]
    damping: float
    scale: Tensor

    @cached_property
    def inverse(self) -> Inverse:
        """Of the damped matrices of all groups."""
        return inverse_of(self.matrix, self.damping)

    @cached_property
    def energy(self) -> Tensor:
        """(groups, rows): w A w^T, what a row costs when all of it goes, as far as it matters."""
        return row_errors(self.weight, self.matrix)

    def errors(self, weight: Tensor) -> Tensor:
        """(groups, rows): (w - w^) A (w - w^)^T, as far as rows matter."""
        return row_errors(self.weight - weight, self.matrix)

    def solution(self, rows: Tensor, mask: Tensor, level: float) -> Compressed:
        """What the layer gets, its error in outputs as they are: rows and mask (groups, rows, d)."""
        dense, weight = self.weight / self.scale, (torch.where(mask, rows, 0.0) / self.scale).float()
        error = _share(row_errors(dense - weight, self.matrix), row_errors(dense, self.matrix))
        shift = None
        if self.mean is not None:
            shift = ((dense - weight) @ self.mean[:, :, None]).flatten().float()
        return Compressed(weight.reshape(self.shape), mask.reshape(self.shape).clone(), error, level, shift)


def problem_of(
    weight: Tensor, gram: Gram, *, importance: Tensor | None = None, centered: bool = False, damping: float = 0.01
) -> Problem:
    """The problem of one layer.

    importance    (C_out,) above 0, what the squared error of every output counts; by default they count alike
    raises        PosttrainingError  weight, Gram matrix and importance are not of one layer, or damaged
    """
    if weight.dim() < 2 or weight.shape[0] % gram.groups or weight[0].numel() != gram.d:
        raise PosttrainingError(
            f"a weight of shape {tuple(weight.shape)} does not belong to a Gram matrix of {gram.groups} groups with "
            f"{gram.d} inputs; is the weight filter first?"
        )
    if not bool(torch.isfinite(weight).all()):
        raise PosttrainingError("the weights hold values that are not finite numbers; they are damaged.")
    rows = weight.detach().double().reshape(gram.groups, -1, gram.d)
    matrix = (gram.centered() if centered else gram).matrix.to(weight.device)
    mean = gram.mean.to(weight.device) if centered else None
    scale = torch.ones_like(rows[:, :, :1])
    if importance is not None:
        if importance.shape != weight.shape[:1] or not bool(((importance > 0) & torch.isfinite(importance)).all()):
            raise PosttrainingError(
                f"the importance of {len(weight)} outputs is as many finite numbers above 0, not "
                f"{tuple(importance.shape)}."
            )
        scale = importance.to(rows).sqrt().reshape(scale.shape)
    return Problem(rows * scale, matrix, mean, tuple(weight.shape), damping, scale)


def row_errors(difference: Tensor, matrix: Tensor) -> Tensor:
    """(groups, rows): v A v^T of every row v of a (groups, rows, d)."""
    return ((difference @ matrix) * difference).sum(-1).clamp(min=0.0)


def output_error(weight: Tensor, new_weight: Tensor, gram: Gram) -> float:
    """||(W - W^) X||^2 / ||W X||^2, both weights filter first."""
    problem = problem_of(weight, gram)
    rows = problem_of(new_weight, gram).weight
    return _share(problem.errors(rows), problem.energy)


def _share(errors: Tensor, energies: Tensor) -> float:
    lost, whole = float(errors.sum()), float(energies.sum())
    if whole == 0.0:
        return 0.0 if lost == 0.0 else float("inf")
    return lost / whole
