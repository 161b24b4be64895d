"""Which weights go together, seen from the rows and columns of a layer: (block of rows, set of columns).

    unit           rows of a block          columns of a set
    unstructured   1                        1
    1xN            N                        kh * kw of one channel;  fine: 1
    kernel         1                        kh * kw of one channel
    4in, block     1, r                     4 channels at a position, c channels x a part of the kernel
    channel, row   all of the group         kh * kw of one channel
    filter, column 1                        all
    N:M            1                        1, at most M - N of every M consecutive channels

Every tile of a pattern is such a unit, in the unit order of the pattern: group, block of rows, set of columns.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.sparsity import NM, Pattern, Tiles


@dataclass(frozen=True)
class Sets:
    """How the columns and rows of one group are divided; the same for all groups.

    columns    (sets, p) column of the group, -1 where a set is shorter
    rest       (n,) columns that always stay
    rows       (blocks, r) row of the group, -1 where a block is shorter; rows that are missing stay dense
    group_of   (sets,) for N:M: the group of M that a column belongs to; -1: of none, it stays
    quota      (groups of M,) for N:M: how many of them go
    """

    columns: Tensor
    rest: Tensor
    rows: Tensor
    group_of: Tensor | None = None
    quota: Tensor | None = None

    @property
    def removals(self) -> int:
        """Sets of columns that a block of rows can lose."""
        return len(self.columns) if self.quota is None else int(self.quota.sum())

    @property
    def sizes(self) -> Tensor:
        """(blocks, sets): weights of every unit."""
        return (self.rows >= 0).sum(1)[:, None] * (self.columns >= 0).sum(1)[None, :]


def sets_of(pattern: Pattern, shape: tuple[int, ...], groups: int) -> Sets | None:
    """The division that a pattern makes, or None for a pattern whose units are not sets of columns."""
    if isinstance(pattern, Tiles):
        return _of_tiles(pattern, shape, groups)
    if isinstance(pattern, NM):
        return _of_n_m(pattern, shape, groups)
    return None


def _of_tiles(pattern: Tiles, shape: tuple[int, ...], groups: int) -> Sets:
    dense = pattern.remainder == "dense"
    filters, (height, *sides) = shape[0] // groups, pattern.tile(shape, groups)
    places = torch.arange(math.prod(shape[1:]))
    columns = _tiled(places.reshape(shape[1:]), tuple(sides), dense)
    rows = _tiled(torch.arange(filters), (height,), dense)
    missing = torch.ones(len(places), dtype=torch.bool)
    missing[columns[columns >= 0]] = False
    return Sets(columns, missing.nonzero().flatten(), rows)


def _of_n_m(pattern: NM, shape: tuple[int, ...], groups: int) -> Sets:
    channels, positions = shape[1], math.prod(shape[2:])
    whole, left = divmod(channels, pattern.m)
    lengths = [pattern.m] * whole + ([left] if pattern.skip == "pad" and left > pattern.n else [])
    of_channel = torch.full((channels,), -1)
    covered = sum(lengths)
    of_channel[:covered] = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths, dtype=torch.long))
    # Groups in the order of the pattern's view, where the position comes before the channel.
    group_of = of_channel[:, None] + len(lengths) * torch.arange(positions)
    group_of[of_channel < 0] = -1
    quota = torch.tensor([length - pattern.n for length in lengths], dtype=torch.long).repeat(positions)
    columns = torch.arange(channels * positions)[:, None]
    rows = torch.arange(shape[0] // groups)[:, None]
    return Sets(columns, torch.empty(0, dtype=torch.long), rows, group_of.flatten(), quota)


def _tiled(places: Tensor, tile: tuple[int, ...], dense: bool) -> Tensor:
    """(tiles, places of a tile), -1 where the last tile of a side is shorter."""
    counts = [n // side if dense else -(-n // side) for n, side in zip(places.shape, tile, strict=True)]
    whole = [count * side for count, side in zip(counts, tile, strict=True)]
    places = places[tuple(slice(0, size) for size in whole)]
    missing = [size - extent for size, extent in zip(whole, places.shape, strict=True)]
    places = F.pad(places, [pad for more in reversed(missing) for pad in (0, more)], value=-1)
    cut = places.reshape([part for pair in zip(counts, tile, strict=True) for part in pair])
    axes = range(cut.dim())
    return cut.permute(*axes[::2], *axes[1::2]).reshape(math.prod(counts), math.prod(tile))
