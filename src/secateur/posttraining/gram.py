"""Gram matrices of layers: all that a layer's output error depends on besides the weights.

    A = mean over columns of x x^T          one for each group
    ||(W - W^) X||^2 / n = sum over rows (w - w^) A (w - w^)^T

Each batch is added once; products are taken in blocks of float32 and summed in float64, then divided by the number of
columns. Where only some columns of a call are drawn, they stand for all of it: their sums count (all / drawn) times, so
that the mean stays that of all columns, whatever the sizes of batches and maps. A layer that runs twice is added twice.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from secateur.errors import PosttrainingError
from secateur.posttraining.geometry import Geometry, columns_in_two, columns_of, positions_of

# Values of unfolded inputs that are laid out at once.
VALUES_AT_A_TIME = 1 << 24
# Columns whose products are summed in float32 before they go into the float64 sum.
COLUMNS_AT_A_TIME = 1 << 12


@dataclass(frozen=True)
class Gram:
    """Second moments of what a layer gets.

    matrix      (groups, d, d) float64, mean of x x^T
    mean        (groups, d) float64, mean of x
    columns     how many columns the means were computed from
    cross       (groups, d, d) float64, mean of x_dense x^T, where the layer's input in the dense network was seen too
    dense_mean  (groups, d) float64, mean of x_dense, together with `cross`
    """

    matrix: Tensor
    mean: Tensor
    columns: int
    cross: Tensor | None = None
    dense_mean: Tensor | None = None

    def __post_init__(self) -> None:
        if self.matrix.dim() != 3 or self.matrix.shape[1] != self.matrix.shape[2]:
            raise PosttrainingError(f"a Gram matrix is (groups, d, d), not {tuple(self.matrix.shape)}.")
        if self.mean.shape != self.matrix.shape[:2]:
            raise PosttrainingError(f"the mean is (groups, d), not {tuple(self.mean.shape)}.")

    @property
    def groups(self) -> int:
        return self.matrix.shape[0]

    @property
    def d(self) -> int:
        """Weights of one filter."""
        return self.matrix.shape[1]

    def centered(self) -> "Gram":
        """The covariance: what is left when the bias takes the mean."""
        cross = self.cross
        if cross is not None and self.dense_mean is not None:
            cross = cross - self.dense_mean[:, :, None] * self.mean[:, None, :]
        matrix = self.matrix - self.mean[:, :, None] * self.mean[:, None, :]
        none = torch.zeros_like(self.mean)
        dense_none = None if self.dense_mean is None else none
        return replace(self, matrix=matrix, mean=none, cross=cross, dense_mean=dense_none)

    def to(self, device: torch.device | str) -> "Gram":
        """The same on another device."""
        tensors = (self.matrix, self.mean, self.cross, self.dense_mean)
        matrix, mean, cross, dense = (None if each is None else each.to(device) for each in tensors)
        assert matrix is not None and mean is not None
        return Gram(matrix, mean, self.columns, cross, dense)


class GramSum:
    """Gathers a Gram matrix batch by batch.

    limit      at most so many columns of each call
    generator  of their draw; without one every batch of one size gives the positions of seed 0
    columns    how many have been added
    stands_for    how many columns there were, drawn or not
    """

    def __init__(self, limit: int | None = None, generator: torch.Generator | None = None) -> None:
        self.limit, self.generator = limit, generator
        self.columns = 0
        self.stands_for = 0
        self._matrix: Tensor | None = None
        self._mean: Tensor | None = None
        self._cross: Tensor | None = None
        self._dense_mean: Tensor | None = None

    @torch.no_grad()
    def add(self, inputs: Tensor, geometry: Geometry, dense: Tensor | None = None) -> None:
        """Adds what a layer got in one batch; `dense` is what it got for the same images in the dense network."""
        if self.columns and (dense is None) != (self._cross is None):
            raise PosttrainingError("the input of the dense network is needed for every batch or for none.")
        if self.limit is not None:
            self._add_columns(inputs, dense, geometry)
            return
        for part, dense_part in zip(*(_parts(each, inputs, geometry) for each in (inputs, dense)), strict=True):
            self._add_columns(part, dense_part, geometry)

    def result(self) -> Gram:
        """The means so far. raises PosttrainingError when nothing was added, or inputs were not finite."""
        if self._matrix is None or self._mean is None:
            raise PosttrainingError("the layer has not run, so nothing is known of its inputs.")
        if not bool(torch.isfinite(self._matrix).all()):
            raise PosttrainingError("the layer's inputs are not finite numbers; the weights before it are damaged.")
        tensors = (self._matrix, self._mean, self._cross, self._dense_mean)
        matrix, mean, cross, dense = (None if each is None else each / self.stands_for for each in tensors)
        assert matrix is not None and mean is not None
        return Gram(matrix, mean, self.columns, cross, dense)

    def sums(self) -> dict[str, Tensor]:
        """What was added up so far, float64, by name; empty before the first batch."""
        found = {"matrix": self._matrix, "mean": self._mean, "cross": self._cross, "dense_mean": self._dense_mean}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def resume_(self, sums: Mapping[str, Tensor], columns: int, stands_for: int) -> None:
        """Goes on from what `sums` gave, to the same result bit for bit."""
        self.columns, self.stands_for = columns, stands_for
        self._matrix, self._mean = sums.get("matrix"), sums.get("mean")
        self._cross, self._dense_mean = sums.get("cross"), sums.get("dense_mean")

    def _add_columns(self, inputs: Tensor, dense: Tensor | None, geometry: Geometry) -> None:
        inputs = _at_least_single(inputs)
        if dense is None:
            columns, others = columns_of(inputs, geometry, self.limit, self.generator), None
        else:
            columns, others = columns_in_two(inputs, _at_least_single(dense), geometry, self.limit, self.generator)
        drawn = columns.shape[2]
        there = drawn if self.limit is None else positions_of(inputs, geometry)
        self.columns += drawn
        self.stands_for += there
        for start in range(0, columns.shape[2], COLUMNS_AT_A_TIME):
            part = columns[:, :, start : start + COLUMNS_AT_A_TIME]
            self._matrix = _plus(self._matrix, part @ part.mT, there / drawn)
            self._mean = _plus(self._mean, part.sum(2, dtype=torch.float64), there / drawn)
            if others is not None:
                other = others[:, :, start : start + COLUMNS_AT_A_TIME]
                self._cross = _plus(self._cross, other @ part.mT, there / drawn)
                self._dense_mean = _plus(self._dense_mean, other.sum(2, dtype=torch.float64), there / drawn)


def _at_least_single(inputs: Tensor) -> Tensor:
    return inputs if inputs.dtype == torch.float64 else inputs.float()


def _plus(total: Tensor | None, more: Tensor, times: float) -> Tensor:
    return more.double() * times if total is None else total.add_(more.double(), alpha=times)


def _parts(each: Tensor | None, inputs: Tensor, geometry: Geometry) -> list[Tensor] | list[None]:
    """A batch in so many pieces that the unfolded columns of one stay small; as many for `each` as for `inputs`."""
    first = inputs.reshape(-1, inputs.shape[-1]) if geometry.kind == "linear" else inputs
    grows = math.prod(geometry.kernel) / math.prod(geometry.stride)
    size = max(1, int(VALUES_AT_A_TIME / max(1.0, grows * math.prod(first.shape[1:]))))
    if each is None:
        return [None] * math.ceil(len(first) / size)
    return list(each.reshape(first.shape).split(size))
