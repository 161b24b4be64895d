"""N:M in two dimensions: tiles of M filters x M input channels with at most N weights in every row and column.

The transposed matrix is N:M too, so that the backward pass gains as well.

    best      of all arrangements with exactly N in every row and column (90 for 2:4) the one with the largest sum
    greedy    weights in falling order of score, as long as row and column have room; may keep fewer

    2:4-2d           best; M up to 4, because all arrangements are tried
    2:4-2d-greedy    any M

A tile lies at one kernel position. Filters and channels (per group) beyond a multiple of M stay dense. Below the
level 1 - N/M the tiles that lose the least share of their scores get the pattern.

Source: Mishra et al. 2021 and the 2-D forms of its software (m4n2_2d_best, m4n2_2d_greedy).
"""

import re
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from typing import Literal, Self

import torch
from torch import Tensor

from secateur.errors import SparsityError
from secateur.graph.layer_count import Kind
from secateur.sparsity.pattern import Combine, Remainder, pattern_kind
from secateur.sparsity.patterns.n_m import FixedLevel
from secateur.sparsity.rounding import Rounding

Method = Literal["best", "greedy"]
LARGEST_OF_BEST = 4
TILES_AT_A_TIME = 1 << 14
_SPEC = re.compile(r"(\d+):(\d+)-2d(-greedy)?")


@pattern_kind
@dataclass(frozen=True)
class SquareNM(FixedLevel):
    """N of M in rows and in columns."""

    method: Method = "best"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "best" and self.m > LARGEST_OF_BEST:
            other = f"{self.n}:{self.m}-2d-greedy"
            raise SparsityError(f"{self} would try too many arrangements; use {other}, or M up to {LARGEST_OF_BEST}.")

    @classmethod
    def parse(cls, spec: str, remainder: Remainder) -> Self | None:
        match = _SPEC.fullmatch(spec)
        return cls(int(match[1]), int(match[2]), "greedy" if match[3] else "best") if match else None

    @classmethod
    def examples(cls) -> tuple[str, ...]:
        return ("2:4-2d", "2:4-2d-greedy")

    def __str__(self) -> str:
        return f"{self.n}:{self.m}-2d{'-greedy' if self.method == 'greedy' else ''}"

    def applies(self, shape: tuple[int, ...], groups: int = 1, kind: Kind = "conv") -> str | None:
        if (reason := self.lacks_input_channels(shape, groups)) is not None:
            return reason
        each = " per group" if groups > 1 else ""
        sides = (shape[0] // groups, shape[1])
        if min(sides) < self.m:
            return f"{self} needs at least {self.m} filters and input channels{each}, it has {sides[0]} and {sides[1]}"
        return None

    def units(self, shape: tuple[int, ...], groups: int = 1) -> int:
        return self.prunable(shape, groups) // self.m**2

    def prunable(self, shape: tuple[int, ...], groups: int = 1) -> int:
        weights = shape[0] // groups // self.m * self.m * (shape[1] // self.m * self.m) * groups
        for extent in shape[2:]:
            weights *= extent
        return weights

    def zeros(self, shape: tuple[int, ...], sparsity: float, rounding: Rounding = "floor", groups: int = 1) -> int:
        """Exact for best; greedy may make more."""
        return self.removed_units(shape, sparsity, rounding, groups) * self.m * (self.m - self.n)

    def group_scores(self, scores: Tensor, groups: int = 1, combine: Combine = "mean") -> Tensor:
        """The share of its scores that a tile loses; `combine` plays no part."""
        tiles = self._tiles(scores, groups)
        total = tiles.abs().sum(-1)
        lost = (tiles * ~self._kept(tiles)).sum(-1)
        return lost / torch.where(total == 0, 1.0, total)

    def mask_of(self, kept: Tensor, scores: Tensor, groups: int = 1) -> Tensor:
        m, filters, channels = self.m, scores.shape[0] // groups, scores.shape[1]
        rows, columns = filters // m, channels // m
        stays = self._kept(self._tiles(scores, groups)) | kept[:, None]
        stays = stays.reshape(groups, rows, columns, -1, m, m).permute(0, 1, 4, 2, 5, 3)
        mask = torch.ones((groups, filters, channels, stays.shape[-1]), dtype=torch.bool, device=scores.device)
        mask[:, : rows * m, : columns * m] = stays.reshape(groups, rows * m, columns * m, -1)
        return mask.reshape(scores.shape)

    def _tiles(self, scores: Tensor, groups: int) -> Tensor:
        """(units, M * M): the scores of every whole tile, in the order group, filters, channels, position."""
        m, filters, channels = self.m, scores.shape[0] // groups, scores.shape[1]
        rows, columns = filters // m, channels // m
        grouped = scores.double().reshape(groups, filters, channels, -1)[:, : rows * m, : columns * m]
        cut = grouped.reshape(groups, rows, m, columns, m, -1)
        return cut.permute(0, 1, 3, 5, 2, 4).reshape(-1, m * m)

    def _kept(self, tiles: Tensor) -> Tensor:
        if self.method == "best":
            return _best(tiles, self.n, self.m)
        return _greedy(tiles, self.n, self.m)


@cache
def arrangements(n: int, m: int) -> tuple[tuple[int, ...], ...]:
    """Every m x m matrix of zeros and ones with n ones in each row and column, row after row."""
    rows = [tuple(int(column in chosen) for column in range(m)) for chosen in combinations(range(m), n)]
    squares = product(rows, repeat=m)
    return tuple(sum(square, ()) for square in squares if all(sum(column) == n for column in zip(*square, strict=True)))


def _best(tiles: Tensor, n: int, m: int) -> Tensor:
    choices = torch.tensor(arrangements(n, m), dtype=tiles.dtype, device=tiles.device)
    best = torch.cat([(part @ choices.T).argmax(dim=1) for part in torch.split(tiles, TILES_AT_A_TIME)])
    return choices[best] > 0


def _greedy(tiles: Tensor, n: int, m: int) -> Tensor:
    order = tiles.argsort(dim=1, descending=True, stable=True)
    every = torch.arange(len(tiles), device=tiles.device)
    kept = torch.zeros_like(tiles, dtype=torch.bool)
    in_row, in_column = (torch.zeros((len(tiles), m), dtype=torch.long, device=tiles.device) for _ in range(2))
    for place in order.T:
        row, column = place // m, place % m
        fits = (in_row[every, row] < n) & (in_column[every, column] < n)
        kept[every, place] = fits
        in_row[every, row] += fits.long()
        in_column[every, column] += fits.long()
    return kept
