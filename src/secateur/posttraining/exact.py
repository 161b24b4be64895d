"""Exact optimal brain surgeon: units go one by one, each time the one that costs least, until nothing is left.

    unit (rows R, columns P)     cost  sum over R of  w_P ([H]_PP)^-1 w_P^T            H = A^-1 of what is left
    its removal                  w <- w - w_P ([H]_PP)^-1 H[P, :]
                                 H <- H - H[:, P] ([H]_PP)^-1 H[P, :]                  one H for a block of rows
    level of a layer             the blocks' sequences are merged: the cheapest next removal of all blocks goes

Several blocks are treated at once. With L L^T = [H]_PP a removal subtracts V^T V from H, V = L^-1 H[P, :]. Only the
diagonal blocks of H and the rows that are needed are brought up to date at once; the rest waits until PENDING rows of
V have gathered, and is then done in one product in which the removed columns are left out.

Source: Hassibi & Stork 1993; Frantar & Alistarh 2022 (ExactOBS, OBC). Delayed updates and sets: our own design.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.posttraining.sets import Sets

# Rows of V that wait: fewer cost more passes over H, more cost longer products for every removal.
PENDING = 48
# Values of H that are treated at once: so many stay in the cache of a processor.
VALUES_AT_A_TIME = 1 << 22


@dataclass(frozen=True)
class Removals:
    """What every block of rows lost, in order.

    sets         (groups, blocks, removals) which set of columns
    increments   (groups, blocks, removals) what its removal added to the error
    """

    sets: Tensor
    increments: Tensor


def remove_all(weight: Tensor, inverse: Tensor, sets: Sets, *, dtype: torch.dtype = torch.float64) -> Removals:
    """All removals of a layer.

    weight     (groups, rows, d), zero where an input is dead
    inverse    (groups, d, d) of the damped Gram matrices
    """
    groups, device = weight.shape[0], weight.device
    blocks, steps = len(sets.rows), sets.removals
    orders = torch.empty((groups * blocks, steps), dtype=torch.long, device=device)
    increments = torch.empty((groups * blocks, steps), dtype=torch.float64, device=device)
    layout = _Layout(sets, device)
    at_a_time = max(1, VALUES_AT_A_TIME // layout.width**2)
    weight, inverse = weight.to(dtype), inverse.to(dtype)
    arranged = [layout.matrix(each) for each in inverse] if groups * blocks > groups else []
    for start in range(0, groups * blocks, at_a_time):
        which = torch.arange(start, min(start + at_a_time, groups * blocks), device=device)
        group, block = which // blocks, which % blocks
        matrices = torch.stack([arranged[int(g)] for g in group]) if arranged else layout.matrix(inverse[group])
        state = _State(layout, layout.rows(weight[group], block), matrices, block)
        for step in range(steps):
            chosen, cost = state.remove_cheapest()
            orders[which, step] = chosen
            increments[which, step] = cost.double()
    shape = (groups, blocks, steps)
    return Removals(orders.reshape(shape), increments.reshape(shape))


def first_costs(weight: Tensor, inverse: Tensor, sets: Sets) -> Tensor:
    """(groups, blocks, sets): what the removal of every unit alone would cost."""
    layout = _Layout(sets, weight.device)
    blocks = torch.arange(len(sets.rows), device=weight.device)
    costs: list[Tensor] = []
    for rows, matrix in zip(weight, inverse, strict=True):
        diagonal = diagonal_blocks(layout.matrix(matrix), layout.p)
        arranged = layout.rows(rows.expand(len(blocks), -1, -1), blocks)
        costs.append(set_costs(arranged, diagonal.expand(len(blocks), -1, -1, -1))[:, : len(sets.columns)])
    return torch.stack(costs)


class _Layout:
    """Columns so arranged that every set is p neighbours; places without a column are independent and hold zeros."""

    def __init__(self, sets: Sets, device: torch.device) -> None:
        self.p = sets.columns.shape[1]
        padding = torch.full((-len(sets.rest) % self.p,), -1, dtype=torch.long)
        columns = torch.cat([sets.columns.flatten(), sets.rest, padding])
        self.real = (columns >= 0).to(device)
        self.columns = columns.clamp(min=0).to(device)
        self.width = len(columns)
        self.sets = self.width // self.p
        self.row_index = sets.rows.to(device)
        self.stays = torch.arange(self.sets, device=device) >= len(sets.columns)
        self.group_of = None if sets.group_of is None else sets.group_of.to(device)
        self.quota = None if sets.quota is None else sets.quota.to(device)
        if self.group_of is not None:
            self.stays = self.stays | (self.group_of < 0)
        sizes = sets.sizes.to(device)
        self.sizes = torch.nn.functional.pad(sizes, (0, self.sets - sizes.shape[1]), value=1)

    def matrix(self, inverse: Tensor) -> Tensor:
        """(..., width, width) from (..., d, d)."""
        arranged = inverse[..., self.columns[:, None], self.columns[None, :]]
        arranged = arranged * (self.real[:, None] & self.real[None, :])
        return arranged + torch.diag_embed((~self.real).to(inverse.dtype))

    def rows(self, weight: Tensor, block: Tensor) -> Tensor:
        """(blocks, r, width) of the weights (blocks, rows, d)."""
        index = self.row_index[block]
        taken = weight.gather(1, index.clamp(min=0)[:, :, None].expand(-1, -1, weight.shape[2]))
        return taken[:, :, self.columns] * self.real * (index >= 0)[:, :, None]


class _State:
    """What is left of some blocks of rows: all of them have lost the same number of sets."""

    def __init__(self, layout: _Layout, rows: Tensor, matrix: Tensor, block: Tensor) -> None:
        self.p, self.rows, self.matrix = layout.p, rows, matrix
        count, _, width = rows.shape
        self.which = torch.arange(count, device=rows.device)
        self.within = torch.arange(self.p, device=rows.device)
        self.names = torch.arange(layout.sets, device=rows.device).expand(count, -1)
        self.sizes = layout.sizes[block].to(rows.dtype)
        self.closed = layout.stays.expand(count, -1).clone()
        self.gone = torch.zeros_like(self.closed)
        self.pending = max(self.p, PENDING // self.p * self.p)
        self.waiting = torch.empty((count, self.pending, width), dtype=rows.dtype, device=rows.device)
        self.used = 0
        self.diagonal = self._diagonal_blocks()
        self.group_of, self.room = None, None
        if layout.group_of is not None and layout.quota is not None:
            self.group_of = layout.group_of.expand(count, -1)
            self.room = layout.quota.expand(count, -1).clone()

    def remove_cheapest(self) -> tuple[Tensor, Tensor]:
        """One removal in every block: (which set, what it cost)."""
        place = self._costs().div_(self.sizes).masked_fill_(self.closed, float("inf")).argmin(1)
        chosen = self.names[self.which, place]
        columns = place[:, None] * self.p + self.within
        rows, waiting = self.matrix[self.which[:, None], columns], self.waiting[:, : self.used]
        if self.used:
            there = waiting.gather(2, columns[:, None, :].expand(-1, self.used, -1))
            rows = torch.baddbmm(rows, there.mT, waiting, alpha=-1)
        taken = self.rows.gather(2, columns[:, None, :].expand(-1, self.rows.shape[1], -1)).mT
        if self.p == 1:
            root = self.diagonal[self.which, place].sqrt()[:, :, None]
            vectors, errors = rows / root, taken / root
        else:
            root = torch.linalg.cholesky_ex(self.diagonal[self.which, place]).L
            vectors = torch.linalg.solve_triangular(root, rows, upper=False)
            errors = torch.linalg.solve_triangular(root, taken, upper=False)
        self.waiting[:, self.used : self.used + self.p] = vectors
        self.used += self.p
        self.rows.baddbmm_(errors.mT, vectors, alpha=-1)
        self.rows.scatter_(2, columns[:, None, :].expand(-1, self.rows.shape[1], -1), 0.0)
        self._lower_diagonal(vectors, place)
        self._close(place)
        if self.used == self.pending:
            self._catch_up()
        return chosen, errors.square().sum((1, 2))

    def _costs(self) -> Tensor:
        """(blocks, sets): what the removal of each set would cost."""
        if self.p == 1:
            return self.rows.square().sum(1) / self.diagonal[..., 0]
        return set_costs(self.rows, self.diagonal)

    def _diagonal_blocks(self) -> Tensor:
        """(blocks, sets, p, p), or (blocks, sets, 1) where a set is one column."""
        if self.p == 1:
            return self.matrix.diagonal(dim1=1, dim2=2)[:, :, None].clone()
        return diagonal_blocks(self.matrix, self.p)

    def _lower_diagonal(self, vectors: Tensor, place: Tensor) -> None:
        if self.p == 1:
            self.diagonal[..., 0].sub_(vectors[:, 0].square())
            self.diagonal[self.which, place] = 1.0
            return
        parts = vectors.reshape(len(vectors), self.p, -1, self.p).transpose(1, 2)
        self.diagonal.sub_(parts.mT @ parts)
        self.diagonal[self.which, place] = torch.eye(self.p, dtype=vectors.dtype, device=vectors.device)

    def _close(self, place: Tensor) -> None:
        self.closed[self.which, place] = True
        self.gone[self.which, place] = True
        if self.group_of is not None and self.room is not None:
            group = self.group_of[self.which, place]
            self.room[self.which, group] -= 1
            full = self.room[self.which, group] == 0
            self.closed |= full[:, None] & (self.group_of == group[:, None])

    def _catch_up(self) -> None:
        """Brings all of H up to date and leaves out the columns of sets that are gone."""
        left = (~self.gone).nonzero()[:, 1].reshape(len(self.gone), -1)
        columns = (left[:, :, None] * self.p + self.within).flatten(1)
        self.matrix = _picked(_picked(self.matrix, columns).mT, columns)
        self.waiting = self.waiting.gather(2, columns[:, None, :].expand(-1, self.pending, -1))
        self.matrix.baddbmm_(self.waiting.mT, self.waiting, alpha=-1)
        self.rows = self.rows.gather(2, columns[:, None, :].expand(-1, self.rows.shape[1], -1))
        self.names, self.sizes = self.names.gather(1, left), self.sizes.gather(1, left)
        self.closed, self.gone = self.closed.gather(1, left), self.gone.gather(1, left)
        self.diagonal = self._diagonal_blocks()
        if self.group_of is not None:
            self.group_of = self.group_of.gather(1, left)
        self.used = 0


def diagonal_blocks(matrix: Tensor, p: int) -> Tensor:
    """(..., n / p, p, p) of a matrix (..., n, n)."""
    cut = matrix.unflatten(-1, (-1, p)).unflatten(-3, (-1, p))
    return cut.diagonal(dim1=-4, dim2=-2).movedim(-1, -3).clone()


def set_costs(rows: Tensor, diagonal: Tensor) -> Tensor:
    """(blocks, sets): sum over the rows (blocks, r, sets * p) of w_P (H_PP)^-1 w_P^T, H_PP (blocks, sets, p, p)."""
    roots = torch.linalg.cholesky_ex(diagonal).L
    parts = rows.unflatten(2, (-1, diagonal.shape[-1])).movedim(1, 3)
    return torch.linalg.solve_triangular(roots, parts, upper=False).square().sum((2, 3))


def _picked(matrix: Tensor, rows: Tensor) -> Tensor:
    """The rows (blocks, k) of the matrices (blocks, n, m)."""
    offset = torch.arange(len(matrix), device=rows.device)[:, None] * matrix.shape[1]
    flat = matrix.flatten(0, 1).index_select(0, (rows + offset).flatten())
    return flat.reshape(*rows.shape, matrix.shape[2])
