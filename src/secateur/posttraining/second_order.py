"""Second-order compression of one layer: which weights go, and what the others become.

    minimise  sum over rows (w - w^) A (w - w^)^T     over all masks of a pattern with so many zeros

Source: Hassibi & Stork 1993; Frantar & Alistarh 2022 (exact), 2023 (column by column).
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from secateur.posttraining.columnwise import given, walk_columns
from secateur.posttraining.gram import Gram
from secateur.posttraining.problem import Compressed, Problem, problem_of
from secateur.sparsity import Pattern, Rounding, make_mask

Method = Literal["auto", "exact", "columns"]


@torch.no_grad()
def compress_layer(
    weight: Tensor,
    gram: Gram,
    pattern: Pattern,
    levels: Sequence[float],
    *,
    method: Method = "auto",
    rounding: Rounding = "floor",
    polish: bool = True,
    centered: bool = False,
    damping: float = 0.01,
    progress: Callable[[], None] | None = None,
) -> list[Compressed]:
    """The layer at every level, in the order of `levels`."""
    problem = problem_of(weight, gram, centered=centered, damping=damping)
    found: list[Compressed] = []
    for level in levels:
        diagonal = problem.inverse.inverse.diagonal(dim1=-2, dim2=-1)
        scores = (problem.weight.square() / diagonal[:, None]).reshape(problem.shape)
        mask = make_mask(scores, pattern, level, rounding, groups=gram.groups).reshape(problem.weight.shape)
        found.append(_filled(problem, mask, level))
        if progress is not None:
            progress()
    return found


@torch.no_grad()
def refit(weight: Tensor, mask: Tensor, gram: Gram, *, centered: bool = False, damping: float = 0.01) -> Compressed:
    """The best weights for a given mask, of any pattern."""
    problem = problem_of(weight, gram, centered=centered, damping=damping)
    level = 1.0 - float(mask.double().mean())
    return _filled(problem, mask.reshape(problem.weight.shape), level)


def _filled(problem: Problem, mask: Tensor, level: float) -> Compressed:
    pairs = zip(problem.weight, problem.inverse.upper, mask, strict=True)
    rows = torch.stack([walk_columns(rows, upper, given(kept))[0] for rows, upper, kept in pairs])
    plain = torch.where(mask, problem.weight, 0.0)
    better = problem.errors(rows) <= problem.errors(plain)
    return problem.solution(torch.where(better[..., None], rows, plain), mask, level)
