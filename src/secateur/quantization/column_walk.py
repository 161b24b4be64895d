"""Second-order rounding of one layer: columns are rounded in order, and what a column loses the later ones make up for.

    A^-1 = U^T U                                          U upper triangular
    column j:    w^_j = round to the grid, 0 where masked
                 e = (w_j - w^_j) / U_jj,      W[:, k] <- W[:, k] - e U[j, k]   for k > j
    sum of e^2   the error of the damped problem, exactly

It is the walk that sparsification makes (posttraining/columnwise.py) with "round" in place of "set to 0". A row that is
worse than rounded to nearest, by the Gram matrix that is not damped, is rounded to nearest.

Source: Frantar & Alistarh 2022 (OBQ), Frantar et al. 2023 (GPTQ).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.errors import QuantizationError
from secateur.posttraining.gram import Gram
from secateur.posttraining.inverse import inverse_of
from secateur.posttraining.problem import Problem, problem_of, row_errors
from secateur.quantization.numbers import Scale

BLOCK = 128


@dataclass(frozen=True)
class Grid:
    """The numbers that the rows of a layer may take.

    step, zero    (rows,) or ()
    low, high     the smallest and largest integer
    """

    step: Tensor
    zero: Tensor
    low: int
    high: int

    def nearest(self, weight: Tensor) -> Tensor:
        """Rows rounded to the grid, of the dtype of `weight`."""
        step, zero = self._column(self.step, weight), self._column(self.zero, weight)
        # The quotient in float32, as whoever writes the integers divides; ties would fall differently otherwise.
        steps = (weight.float() / step.float()).round().to(weight)
        return steps.clamp(self.low - zero, self.high - zero) * step

    def rows(self, groups: int) -> list["Grid"]:
        """The grid of each group of rows."""
        if not self.step.dim():
            return [self] * groups
        parts = zip(self.step.chunk(groups), self.zero.chunk(groups), strict=True)
        return [Grid(step, zero, self.low, self.high) for step, zero in parts]

    @staticmethod
    def _column(values: Tensor, weight: Tensor) -> Tensor:
        own = values.to(weight.device, weight.dtype)
        return own.reshape(-1, *(1,) * (weight.dim() - 1)) if own.dim() else own


def grid_of(scale: Scale) -> Grid:
    """The grid of a weight whose rows are the channels of its scale."""
    numbers = scale.numbers
    return Grid(
        torch.from_numpy(scale.step.astype("float64")), torch.from_numpy(scale.zero.astype("float64")),
        numbers.low, numbers.high,
    )  # fmt: skip


@dataclass(frozen=True)
class RoundedLayer:
    """Weights of one layer on a grid.

    weight      filter first, float32; step (q - zero) exactly, 0 where masked
    nearest     relative squared error of the output when every weight goes to the nearest number of the grid
    error       the same of `weight`, never more
    """

    weight: Tensor
    nearest: float
    error: float


@torch.no_grad()
def round_layer(
    weight: Tensor,
    gram: Gram,
    scale: Scale,
    *,
    mask: Tensor | None = None,
    damping: float = 0.01,
    ordered: bool = False,
) -> RoundedLayer:
    """The layer on the grid of `scale`, with little error of its outputs.

    weight     filter first
    scale      of the tensor, or of each filter: `axis` 0 or None, as `weight` is given
    mask       True = kept; what is not kept becomes 0, and the kept weights make up for it. None: all are
    ordered    columns whose inputs are strongest go first, instead of their own order
    raises     QuantizationError  scales that do not fit;  PosttrainingError  a Gram matrix of another layer
    """
    if scale.axis not in (None, 0) or scale.step.size not in (1, len(weight)):
        raise QuantizationError(
            f"a weight of shape {tuple(weight.shape)}, filters first, has one scale or one for each of its "
            f"{len(weight)} filters; got {scale.step.size} along axis {scale.axis}."
        )
    problem = problem_of(weight, gram, damping=damping)
    kept = torch.ones_like(problem.weight, dtype=torch.bool)
    if mask is not None:
        kept = mask.to(weight.device).bool().reshape(problem.weight.shape)
    grids = grid_of(scale).rows(problem.weight.shape[0])
    rows: list[Tensor] = []
    nearest: list[Tensor] = []
    for group, grid in enumerate(grids):
        plain = torch.where(kept[group], grid.nearest(problem.weight[group]), 0.0)
        walked = _walk(problem, group, grid, kept[group], ordered)
        lost, lost_plain = (row_errors(problem.weight[group] - w, problem.matrix[group]) for w in (walked, plain))
        rows.append(torch.where((lost < lost_plain)[:, None], walked, plain))
        nearest.append(plain)
    found = [torch.stack(each) for each in (nearest, rows)]
    whole = float(problem.energy.sum())
    errors = [float(problem.errors(each).sum()) / whole if whole else 0.0 for each in found]
    return RoundedLayer(found[1].float().reshape(weight.shape), *errors)


def _walk(problem: Problem, group: int, grid: Grid, kept: Tensor, ordered: bool) -> Tensor:
    weight = problem.weight[group]
    if not ordered:
        return walk_columns(weight, problem.inverse.upper[group], grid, kept)
    # A single matrix of the group, in the new order, with an inverse of its own.
    order = problem.matrix[group].diagonal().argsort(descending=True, stable=True)
    turned = inverse_of(problem.matrix[group][order][:, order][None], problem.damping)
    walked = walk_columns(weight[:, order], turned.upper[0], grid, kept[:, order])
    return torch.empty_like(walked).index_copy_(1, order, walked)


def walk_columns(weight: Tensor, upper: Tensor, grid: Grid, kept: Tensor, block: int = BLOCK) -> Tensor:
    """(rows, d) on the grid: one walk over the columns.

    upper    (d, d), U of the inverse, same dtype
    kept     (rows, d)
    """
    weight = weight.clone()
    d = weight.shape[1]
    for start in range(0, d, block):
        end = min(start + block, d)
        part, triangle = weight[:, start:end].clone(), upper[start:end, start:end]
        errors = torch.zeros_like(part)
        for j in range(end - start):
            column = torch.where(kept[:, start + j], grid.nearest(part[:, j, None])[:, 0], 0.0)
            errors[:, j] = (part[:, j] - column) / triangle[j, j]
            part[:, j + 1 :] -= errors[:, j, None] * triangle[j, j + 1 :]
            part[:, j] = column
        weight[:, start:end] = part
        weight[:, end:] -= errors @ upper[start:end, end:]
    return weight
