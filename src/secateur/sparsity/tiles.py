"""Patterns that cut a weight into tiles: one rule for all of them.

    tile [r, c, kh, kw]     r consecutive filters x c consecutive input channels x kernel positions,
                            inside a group of a grouped convolution
    score                   the scores of its weights combined (mean, sum, max)
    unit order              group, rows of tiles, columns of tiles, kernel positions

      unstructured [1, 1, 1, 1]     kernel  [1, 1, kh, kw]     1xN       [N, 1, kh, kw]     block [r, c, kh, kw]
      4in          [1, 4, 1, 1]     filter  [1, C, kh, kw]     1xN-fine  [N, 1, 1, 1]
                                    channel [F, 1, kh, kw]

Filters or channels beyond a multiple of the tile make shorter tiles, or stay dense.

Source: the block shapes of Distiller, generalised; 1xN is Lin et al. 2022.
"""

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.graph.layer_count import Kind
from secateur.sparsity.pattern import Combine, Pattern


class Tiles(Pattern):
    """A pattern whose units are tiles of one size."""

    @abstractmethod
    def tile(self, shape: tuple[int, ...], groups: int = 1) -> tuple[int, ...]:
        """The sides of a tile of a weight of that shape, as many as the weight has."""

    def applies(self, shape: tuple[int, ...], groups: int = 1, kind: Kind = "conv") -> str | None:
        return None

    def units(self, shape: tuple[int, ...], groups: int = 1) -> int:
        return groups * math.prod(self._counts(shape, groups))

    def prunable(self, shape: tuple[int, ...], groups: int = 1) -> int:
        counts, tile = self._counts(shape, groups), self.tile(shape, groups)
        sides = (shape[0] // groups, *shape[1:])
        return groups * math.prod(
            min(count * side, extent) for count, side, extent in zip(counts, tile, sides, strict=True)
        )

    def group_scores(self, scores: Tensor, groups: int = 1, combine: Combine = "mean") -> Tensor:
        shape = tuple(scores.shape)
        tile, counts = self.tile(shape, groups), self._counts(shape, groups)
        if math.prod(tile) == 1:
            return scores.flatten()
        # Double precision, so that sums do not invent an order among equals.
        grouped = scores.double().reshape(groups, shape[0] // groups, *shape[1:])
        fill = float("-inf") if combine == "max" else 0.0
        tiled, within = _cut(grouped, tile, counts, fill), tuple(range(2, 2 * len(tile) + 1, 2))
        if combine == "max":
            return tiled.amax(within).flatten()
        sums = tiled.sum(within)
        if combine == "mean":
            sums = sums / _sizes(grouped, tile, counts)
        return sums.flatten()

    def mask_of(self, kept: Tensor, scores: Tensor, groups: int = 1) -> Tensor:
        shape = tuple(scores.shape)
        tile, counts = self.tile(shape, groups), self._counts(shape, groups)
        tiles = kept.reshape(groups, *counts)
        for axis, side in enumerate(tile, start=1):
            if side > 1:
                tiles = tiles.repeat_interleave(side, dim=axis)
        sides = (shape[0] // groups, *shape[1:])
        covered = tuple(slice(0, min(extent, size)) for extent, size in zip(sides, tiles.shape[1:], strict=True))
        mask = torch.ones((groups, *sides), dtype=torch.bool, device=kept.device)
        mask[(slice(None), *covered)] = tiles[(slice(None), *covered)]
        return mask.reshape(shape)

    def _counts(self, shape: tuple[int, ...], groups: int) -> tuple[int, ...]:
        """Tiles along every side of one group."""
        sides, tile = (shape[0] // groups, *shape[1:]), self.tile(shape, groups)
        whole = self.remainder == "dense"
        return tuple(extent // side if whole else -(-extent // side) for extent, side in zip(sides, tile, strict=True))


def _cut(grouped: Tensor, tile: tuple[int, ...], counts: tuple[int, ...], fill: float) -> Tensor:
    """(group, n1, side1, n2, side2, ...): what is missing in the last tile of a side is `fill`."""
    sizes = [count * side for count, side in zip(counts, tile, strict=True)]
    grouped = grouped[(slice(None), *(slice(0, size) for size in sizes))]
    missing = [size - extent for size, extent in zip(sizes, grouped.shape[1:], strict=True)]
    if any(missing):
        grouped = F.pad(grouped, [pad for more in reversed(missing) for pad in (0, more)], value=fill)
    return grouped.reshape(grouped.shape[0], *(part for pair in zip(counts, tile, strict=True) for part in pair))


def _sizes(grouped: Tensor, tile: tuple[int, ...], counts: tuple[int, ...]) -> Tensor:
    """Weights in every tile of one group."""
    size = torch.ones((), dtype=grouped.dtype, device=grouped.device)
    for extent, side, count in zip(grouped.shape[1:], tile, counts, strict=True):
        starts = side * torch.arange(count, dtype=grouped.dtype, device=grouped.device)
        size = size.unsqueeze(-1) * (extent - starts).clamp(max=side)
    return size
