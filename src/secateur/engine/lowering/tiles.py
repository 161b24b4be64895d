"""Tiles of pixels and units of work for the convolution kernel.

A map of n vectors is cut into ceil(n / V) tiles of nearly equal size, so there is no short remainder (13 vectors with
V = 6 are 5 + 4 + 4). A unit is one tile with a range of panels; the order of the units is the loop order, and threads
get contiguous ranges of it.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from secateur.engine.layout import Planes

# Enough units that a static cut by cost leaves no thread waiting long.
UNITS_PER_THREAD = 6


@dataclass(frozen=True)
class Tiles:
    """Tile table of the kernel.

    table    (tiles, 5) i64, see kernels.conv.TILE_FIELDS
    vectors  sizes that occur, largest first
    sizes    (tiles,) vectors of each tile
    """

    table: NDArray[np.int64]
    vectors: tuple[int, ...]
    sizes: NDArray[np.int64]


def split(vectors: int, most: int) -> list[int]:
    """Sizes of the tiles of `vectors` vectors, each at most `most`, as equal as can be, large ones first."""
    count = -(-vectors // most)
    small, large = divmod(vectors, count)
    return [small + 1] * large + [small] * (count - large)


def plan_tiles(
    output: Planes, most: int, lanes: int, *, image: int, shift: int, residual: Planes | None = None
) -> Tiles:
    """Tiles of all images.

    output    layout in which sums are computed
    most      V, vectors of the largest tile
    image     elements from one image of the source to the next
    shift     elements from a tile's first output to its first input position
    residual  layout of the second operand, of the same pitch
    """
    vectors = -(-((output.h - 1) * output.pitch + output.w) // lanes)
    sizes = split(vectors, most)
    kinds = tuple(sorted(set(sizes), reverse=True))
    begins = np.cumsum([0, *sizes[:-1]])
    rows = [
        (
            4 * (n * image + begin * lanes + shift),
            4 * (n * output.image_stride + begin * lanes),
            4 * (n * (residual.image_stride if residual else 0) + begin * lanes),
            begin,
            kinds.index(size),
        )
        for n in range(output.n)
        for begin, size in zip(begins, sizes, strict=True)
    ]
    return Tiles(np.array(rows, np.int64), kinds, np.array(sizes * output.n, np.int64))


def plan_units(
    tiles: Tiles,
    panel_costs: NDArray[np.float64],
    threads: int,
    *,
    bounds: NDArray[np.int64],
    packs: NDArray[np.int64] | None = None,
    chunks: int = 1,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Unit table of the kernel, and the cost of each unit.

    panel_costs  (panels,) per vector of pixels
    bounds       (groups + 1,) panel ranges that may not be joined
    packs        (groups, 2) positions that a packed tile holds, one range for each range of `bounds`
    chunks       ranges of panels that all tiles compute before the next range is begun; 1: all panels for each tile
    """
    tile_count = len(tiles.sizes)
    wanted = max(chunks, -(-UNITS_PER_THREAD * threads // max(tile_count, 1)))
    per_range = max(1, -(-wanted // (len(bounds) - 1)))
    cuts: list[tuple[int, int, int, int]] = []
    for index, (begin, end) in enumerate(pairwise(bounds)):
        pack = packs[index] if packs is not None else (0, 0)
        total = np.concatenate([[0.0], np.cumsum(panel_costs[begin:end])])
        steps: NDArray[np.float64] = np.linspace(0, float(total[-1]), min(per_range, max(end - begin, 1)) + 1)
        inner: list[int] = np.searchsorted(total, steps[1:-1]).tolist()
        edges = sorted({0, *inner, int(end - begin)})
        cuts += [(int(begin + a), int(begin + b), int(pack[0]), int(pack[1])) for a, b in pairwise(edges)]
    cut_table = np.array(cuts, np.int64).reshape(-1, 4)
    cut_costs = np.array([panel_costs[begin:end].sum() for begin, end, _, _ in cuts])
    if chunks > 1:
        cut, tile = (a.reshape(-1) for a in np.meshgrid(range(len(cuts)), range(tile_count), indexing="ij"))
    else:
        tile, cut = (a.reshape(-1) for a in np.meshgrid(range(tile_count), range(len(cuts)), indexing="ij"))
    units = np.concatenate([tile[:, None], cut_table[cut]], axis=1).astype(np.int32)
    return units, (cut_costs[cut] * tiles.sizes[tile] + 1.0).astype(np.float64)
