"""Column-wise optimal brain surgeon: takes from a layer the weights of a mask, one column after the other.

    A^-1 = U^T U          U upper triangular
    column j:             e = (w_j - w^_j) / U_jj,      W[:, k] <- W[:, k] - e U[j, k]   for k > j
    sum of e^2            the error of the damped problem, exactly

Columns are walked in blocks; what lies behind a block is updated by one product. A column that was passed is frozen,
so in strongly correlated cases the result can be worse than masking alone: polish and compare (`second_order.py`).

Source: Frantar & Alistarh 2023 (SparseGPT), section 3.
"""

import torch
from torch import Tensor

BLOCK = 128


def walk_columns(weight: Tensor, upper: Tensor, mask: Tensor, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Weights on a mask, and what each row lost.

    weight    (rows, d), mask alike
    upper     (d, d), U of the inverse, same dtype
    returns   (rows, d) with exact zeros, (rows,) sum of e^2
    """
    weight = weight.clone()
    lost = torch.zeros_like(weight[:, 0])
    d = weight.shape[1]
    for start in range(0, d, block):
        end = min(start + block, d)
        part, kept, triangle = weight[:, start:end].clone(), mask[:, start:end], upper[start:end, start:end]
        errors = torch.zeros_like(part)
        for j in range(end - start):
            errors[:, j] = torch.where(kept[:, j], 0.0, part[:, j]) / triangle[j, j]
            part[:, j:] -= errors[:, j, None] * triangle[j, j:]
        weight[:, start:end] = torch.where(kept, part, 0.0)
        weight[:, end:] -= errors @ upper[start:end, end:]
        lost += errors.square().sum(1)
    return weight, lost
