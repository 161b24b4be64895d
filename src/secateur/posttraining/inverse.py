"""The inverse of a damped Gram matrix, and the triangle that columns are walked with.

    A_d = A + damping * mean(diag A) I          damping x 10 until the Cholesky factorisation succeeds
    A_d^-1 = U^T U                              U upper triangular, positive diagonal
    dead input, A_jj = 0:  A_jj = 1             its weight has no effect and goes first

Source: Hassibi & Stork 1993; Frantar & Alistarh 2023 (SparseGPT): U and the damping.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.errors import PosttrainingError, SingularGramError

LARGEST_DAMPING = 10.0
FIRST_DAMPING = 1e-8  # what follows when none was asked for and none is not enough


@dataclass(frozen=True)
class Inverse:
    """Of one matrix, or of one for each group: then every tensor has the groups in front.

    matrix    (d, d) float64, damped, dead inputs with a 1 on the diagonal
    inverse   (d, d) float64
    upper     (d, d) float64, inverse = upper^T upper
    dead      (d,) bool, inputs that are always zero
    damping   the largest that was used
    """

    matrix: Tensor
    inverse: Tensor
    upper: Tensor
    dead: Tensor
    damping: float


def inverse_of(matrix: Tensor, damping: float = 0.01) -> Inverse:
    """Inverse and factor of a Gram matrix (d, d), or of several (groups, d, d).

    raises    SingularGramError  when damping up to 10 mean(diag) does not make it positive definite
    """
    if not 0.0 <= damping <= LARGEST_DAMPING:
        raise PosttrainingError(f"damping is a number from 0 to {LARGEST_DAMPING:g}, not {damping}.")
    if not bool(torch.isfinite(matrix).all()):
        raise PosttrainingError("the Gram matrix holds values that are not finite numbers.")
    damped, dead, used = damped_matrix(matrix, damping)
    factor, failed = _upper_factor(damped)
    while bool(failed.any()):
        used = max(10 * used, FIRST_DAMPING)
        if used > LARGEST_DAMPING * (1 + 1e-9):
            raise SingularGramError(
                f"a Gram matrix of {matrix.shape[-1]} inputs is not positive definite, even with {LARGEST_DAMPING:g} "
                "times its mean diagonal added; the layer's inputs are damaged."
            )
        again, _, _ = damped_matrix(matrix, used)
        damped = torch.where((failed > 0)[..., None, None], again, damped)
        factor, failed = _upper_factor(damped)
    unit = torch.eye(matrix.shape[-1], dtype=torch.float64, device=matrix.device).expand_as(damped)
    upper = torch.linalg.solve_triangular(factor, unit, upper=True)
    return Inverse(damped, upper.mT @ upper, upper, dead, used)


def _upper_factor(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """R, upper triangular, with matrix = R R^T, so that the U of the inverse is R^-1; and where there is none."""
    # The order is turned round twice, so that the inverse needs no factorisation of its own, which could fail.
    lower, failed = torch.linalg.cholesky_ex(matrix.flip((-2, -1)))
    return lower.flip((-2, -1)), failed


def damped_matrix(matrix: Tensor, damping: float) -> tuple[Tensor, Tensor, float]:
    """(A + damping * mean(diag A) I with dead inputs made harmless, which inputs are dead, damping)."""
    matrix = matrix.double()
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    dead = diagonal <= 0
    alive = ~dead
    mean = (diagonal * alive).sum(-1, keepdim=True) / alive.sum(-1, keepdim=True).clamp(min=1)
    matrix = matrix * (alive[..., :, None] & alive[..., None, :])
    more = torch.where(dead, 1.0, damping * mean)
    return matrix + torch.diag_embed(more), dead, damping
