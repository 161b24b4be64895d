"""Least squares on a mask: the best weights that the kept places S of a row allow.

    w^_S = (w A)[S] (A_SS)^-1                    where few weights are kept
    w^   = w - w_P ([A^-1]_PP)^-1 A^-1[P, :]     where few weights P go; the same thing
    conjugate gradients on A_SS                  where both would take too long; better with every step

A is damped. Rows with one mask share a factorisation; rows with about as many weights are factorised together.

Source: the normal equations; Hestenes & Stiefel 1952 for the iteration.
"""

import torch
from torch import Tensor

from secateur.posttraining.inverse import Inverse

# Multiply-adds of the factorisations of a layer, beyond which they give way to conjugate gradients.
MOST_WORK = 1e11
STEPS = 60
TOLERANCE = 1e-4  # of the residual, relative to that of the start
VALUES_AT_A_TIME = 1 << 22


def is_direct(mask: Tensor) -> bool:
    """Whether least squares on a mask (groups, rows, d) is a matter of seconds."""
    kept = mask.sum(-1)
    fewer = torch.minimum(kept, mask.shape[-1] - kept)
    return float(fewer.double().pow(3).sum()) / 3 <= MOST_WORK


def least_squares(weight: Tensor, inverse: Inverse, mask: Tensor) -> Tensor:
    """The best weights on a mask.

    weight    (groups, rows, d) float64, mask alike
    inverse   of the damped matrices of the groups
    returns   (groups, rows, d), exact zeros where removed
    """
    groups, rows, d = weight.shape
    weight = torch.where(inverse.dead[:, None], 0.0, weight)
    owner = torch.arange(groups, device=weight.device).repeat_interleave(rows)
    kinds, kind_of = torch.unique(torch.cat([owner[:, None], mask.flatten(0, 1)], 1), dim=0, return_inverse=True)
    owner, kinds = kinds[:, 0], kinds[:, 1:] > 0
    kept = kinds.sum(1)
    fewer = torch.minimum(kept, d - kept)
    flat = weight.flatten(0, 1)
    result = torch.where(mask.flatten(0, 1), flat, 0.0)
    members = torch.bincount(kind_of, minlength=len(kinds))
    by_kind = kind_of.argsort(stable=True)
    first = members.cumsum(0) - members
    for which, few in _batches(fewer, members, kept < d - kept):
        if int(fewer[which].max()) == 0:
            continue
        index = by_kind[first[which, None] + torch.arange(int(members[which[0]]), device=weight.device)]
        solve = _on_kept if few else _without_removed
        result[index] = solve(flat[index], inverse, owner[which], kinds[which])
    return torch.where(mask.flatten(0, 1), result, 0.0).reshape(weight.shape)


def _batches(fewer: Tensor, members: Tensor, few: Tensor) -> "list[tuple[Tensor, bool]]":
    """Masks that are treated together: as many rows each, about as large a system, one way of solving."""
    batches: list[tuple[Tensor, bool]] = []
    for way in (True, False):
        for count in members.unique().tolist():
            which = ((members == count) & (few == way)).nonzero().flatten()
            which = which[fewer[which].argsort(stable=True)]
            while len(which):
                # The largest come first, so that their size is that of the batch.
                largest = max(int(fewer[which[-1]]), 1)
                size = max(1, VALUES_AT_A_TIME // (largest * largest))
                batches.append((which[-size:], way))
                which = which[:-size]
    return batches


def _on_kept(rows: Tensor, inverse: Inverse, owner: Tensor, kinds: Tensor) -> Tensor:
    """(kinds, members, d) from rows alike: the normal equations of the kept weights."""
    places, real = _places(kinds)
    system = _block(inverse.matrix, owner, places, real)
    right = (rows @ inverse.matrix[owner]).gather(2, _wide(places, rows))
    solved = torch.cholesky_solve((right * real[:, None]).mT, torch.linalg.cholesky_ex(system).L).mT
    return torch.zeros_like(rows).scatter_add_(2, _wide(places, rows), solved * real[:, None])


def _without_removed(rows: Tensor, inverse: Inverse, owner: Tensor, kinds: Tensor) -> Tensor:
    """The same from the removed weights and the inverse."""
    places, real = _places(~kinds)
    system = _block(inverse.inverse, owner, places, real)
    right = rows.gather(2, _wide(places, rows)) * real[:, None]
    solved = torch.cholesky_solve(right.mT, torch.linalg.cholesky_ex(system).L).mT * real[:, None]
    spread = torch.zeros_like(rows).scatter_add_(2, _wide(places, rows), solved)
    return rows - spread @ inverse.inverse[owner]


def _places(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """(kinds, most) the columns that are chosen, and which of these places are real."""
    counts = chosen.sum(1)
    places = (~chosen).byte().argsort(dim=1, stable=True)[:, : max(int(counts.max()), 1)]
    return places, torch.arange(places.shape[1], device=chosen.device) < counts[:, None]


def _block(matrix: Tensor, owner: Tensor, places: Tensor, real: Tensor) -> Tensor:
    """(kinds, most, most): matrix[S, S] of every kind, filled up by the identity."""
    block = matrix[owner[:, None, None], places[:, :, None], places[:, None, :]]
    block = block * (real[:, :, None] & real[:, None, :])
    return block + torch.diag_embed((~real).to(matrix.dtype))


def _wide(places: Tensor, rows: Tensor) -> Tensor:
    return places[:, None].expand(-1, rows.shape[1], -1)


def iterated(weight: Tensor, matrix: Tensor, mask: Tensor, start: Tensor, steps: int = STEPS) -> Tensor:
    """Conjugate gradients from `start`, all rows at once, the diagonal as preconditioner; the correction in float32.

    matrix    (groups, d, d) damped
    """
    begin = torch.where(mask, start, 0.0)
    kept, single = mask.float(), matrix.float()
    residual = ((weight - begin) @ matrix).float() * kept
    scale = 1.0 / single.diagonal(dim1=1, dim2=2)[:, None]
    change, ahead = torch.zeros_like(residual), residual * scale
    size = (residual * ahead).sum(-1, keepdim=True)
    enough = TOLERANCE**2 * size
    for _ in range(steps):
        if not bool((size > enough).any()):
            break
        pushed = (ahead @ single) * kept
        curvature = (ahead * pushed).sum(-1, keepdim=True)
        step = torch.where(curvature > 0, size / curvature, 0.0)
        change += step * ahead
        residual -= step * pushed
        scaled = residual * scale
        before, size = size, (residual * scaled).sum(-1, keepdim=True)
        ahead = scaled + torch.where(before > 0, size / before, 0.0) * ahead
    return begin + change.double()
