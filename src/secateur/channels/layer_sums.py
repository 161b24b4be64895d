"""Sums over sampled positions from which channels are chosen and weights are fitted.

    gram = sum of x x^T      cross = sum of y x^T      energy = sum of y^2        y = target of one output channel

    || y - w x ||^2 = energy - 2 w cross + w gram w^T                             x = columns of a group, y - bias

In double precision and of constant size, however many images stream by.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(eq=False)
class LayerSums:
    """Of one layer of g groups, o outputs and d columns (input channel, kernel position) in each.

    gram      (g, d, d)
    cross     (g, o, d)
    energy    (g, o)
    """

    gram: Tensor
    cross: Tensor
    energy: Tensor

    @classmethod
    def empty(cls, groups: int, outputs: int, columns: int, device: torch.device) -> "LayerSums":
        """Nothing yet; `outputs` and `columns` of one group."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        return cls(zeros(groups, columns, columns), zeros(groups, outputs, columns), zeros(groups, outputs))

    def add_(self, columns: Tensor, targets: Tensor) -> None:
        """columns (samples, channels, kernel positions), targets (samples, output channels)"""
        groups, outputs, width = self.cross.shape
        x = columns.double().reshape(len(columns), groups, width).transpose(0, 1)
        y = targets.double().reshape(len(targets), groups, outputs).transpose(0, 1)
        self.gram += x.mT @ x
        self.cross += y.mT @ x
        self.energy += y.square().sum(1)

    def to(self, device: torch.device | str) -> "LayerSums":
        return LayerSums(self.gram.to(device), self.cross.to(device), self.energy.to(device))

    def error(self, weight: Tensor, importance: Tensor | None = None) -> float:
        """Sum of squared errors of weights (g, o, d); `importance` (g, o) multiplies those of each output channel."""
        each = self.energy - 2 * (weight * self.cross).sum(2) + ((weight @ self.gram) * weight).sum(2)
        return float((each if importance is None else each * importance).sum().clamp(min=0.0))

    def size(self, importance: Tensor | None = None) -> float:
        """Sum of squared targets, weighted alike."""
        return float((self.energy if importance is None else self.energy * importance).sum())


def fitted(sums: LayerSums, weight: Tensor, kept: Tensor) -> Tensor:
    """The weights with the least squared error that are zero where `kept` is not.

        w <- w + (cross - w gram) gram^+        over the kept columns

    Where the samples do not determine the weights (channels that are never on, fewer samples than columns) the
    smallest change of `weight` is taken; else the result is that of least squares whatever the weights were.

    weight    (g, o, d) float64, zero where not kept
    kept      (g, o, d) boolean; rows with the same columns are solved together
    """
    result = weight.clone()
    for group in range(len(weight)):
        patterns, owner = torch.unique(kept[group], dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            rows, columns = torch.nonzero(owner == number)[:, 0], torch.nonzero(pattern)[:, 0]
            if not len(columns):
                continue
            gram = sums.gram[group][columns][:, columns]
            before = weight[group][rows][:, columns]
            missing = sums.cross[group][rows][:, columns] - before @ gram
            result[group, rows[:, None], columns] = before + missing @ _inverse(gram)
    return result


def _inverse(gram: Tensor) -> Tensor:
    """The pseudo-inverse of a Gram matrix, without directions that only rounding has put there."""
    values, vectors = torch.linalg.eigh(gram)
    # Samples are float32: squares of their rounding errors are some 1e-14 of the largest value.
    real = values > 1e-11 * values[-1].clamp(min=0.0)
    inverse = torch.where(real, 1.0 / values.where(real, torch.ones_like(values)), 0.0)
    return (vectors * inverse) @ vectors.mT
