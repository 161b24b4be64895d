"""Column-wise optimal brain surgeon: removes from a layer the weights of a mask, or chooses them while it walks.

    A^-1 = U^T U          U upper triangular
    column j:             e = (w_j - w^_j) / U_jj,      W[:, k] <- W[:, k] - e U[j, k]   for k > j
    sum of e^2            the error of the damped problem, exactly
    score of a weight     w_ij^2 / U_jj^2, as the columns before j have left it

Columns are walked in blocks; what lies behind a block is updated by one product. A column that was passed is frozen,
so in strongly correlated cases the result can be worse than masking alone: polish and compare (`polish.py`).

Source: Frantar & Alistarh 2023 (SparseGPT), section 3.
"""

from collections.abc import Callable

import torch
from torch import Tensor

BLOCK = 128

Choose = Callable[[Tensor, int, int], Tensor]


def walk_columns(weight: Tensor, upper: Tensor, choose: Choose, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Weights after the walk, and the mask.

    weight    (rows, d)
    upper     (d, d), U of the inverse, same dtype
    choose    (scores (rows, columns), first column, behind the last) -> kept, bool, for the columns of one block
    returns   (rows, d) with exact zeros, (rows, d) bool
    """
    weight = weight.clone()
    d = weight.shape[1]
    mask = torch.ones_like(weight, dtype=torch.bool)
    for start in range(0, d, block):
        end = min(start + block, d)
        part, triangle = weight[:, start:end].clone(), upper[start:end, start:end]
        kept = choose((part / triangle.diagonal()).square(), start, end)
        mask[:, start:end] = kept
        errors = torch.zeros_like(part)
        for j in range(end - start):
            lost = torch.where(kept[:, j], 0.0, part[:, j]) / triangle[j, j]
            errors[:, j] = lost
            part[:, j:] -= lost[:, None] * triangle[j, j:]
        weight[:, start:end] = torch.where(kept, part, 0.0)
        weight[:, end:] -= errors @ upper[start:end, end:]
    return weight, mask


def given(mask: Tensor) -> Choose:
    """The rule that takes a mask (rows, d) from elsewhere."""
    return lambda scores, start, end: mask[:, start:end]
