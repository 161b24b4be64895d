"""Tiles of pixels and units of work for the convolution kernel.

A map of n vectors is cut into ceil(n / V) tiles of nearly equal size, so there is no short remainder (13 vectors with
V = 6 are 5 + 4 + 4). Kernels on planes of bytes compute V vectors or a single one: their tiles have V, and the last one
what is left. Where a tensor lies in tiles already, each of those is cut so. A unit is one tile with a range of panels;
the order of the units is the loop order, and threads get contiguous ranges of it.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from secateur.engine.layout import ALIGN, Planes, Tiled, split

# What a tile of one vector takes where others are computed whole.
SINGLE = 0.55
# Enough units that a static cut by cost leaves no thread waiting long.
UNITS_PER_THREAD = 6

Maps = Planes | Tiled


@dataclass(frozen=True)
class Tiles:
    """Tile table of the kernel.

    table    (tiles, 5) i64, see kernels.conv_form.TILE_FIELDS
    vectors  sizes that occur, largest first
    work     (tiles,) vectors that are computed for each tile
    """

    table: NDArray[np.int64]
    vectors: tuple[int, ...]
    work: NDArray[np.float64]


def plan_tiles(
    output: Planes,
    most: int,
    lanes: int,
    *,
    source: Maps,
    target: Maps,
    residual: Maps | None,
    shift: int,
    unit: int = 4,
    whole: bool = False,
) -> Tiles:
    """Tiles of all images.

    output                    pitch and size of the maps in which sums are computed
    most                      V, vectors of the largest tile
    source, target, residual  layouts of the input, of the output and of the second operand: in tiles, or of the same
                              pitch
    shift                     elements from a tile's first output to its first input position
    unit                      bytes of an element of the source
    whole                     V vectors are computed for each tile with more than one
    """
    vectors = -(-((output.h - 1) * output.pitch + output.w) // lanes)
    per_line = ALIGN // lanes
    given = next((layout.lines for layout in (source, target, residual) if isinstance(layout, Tiled)), None)
    blocks = [lines * per_line for lines in given] if given else [vectors]
    blocks[-1] = vectors - sum(blocks[:-1])
    parts = [(index, size) for index, block in enumerate(blocks) for size in _cut(block, most, whole=whole)]
    sizes = [size for _, size in parts]
    kinds = tuple(sorted(set(sizes), reverse=True))
    begins: list[int] = np.cumsum([0, *sizes[:-1]]).tolist()
    before: list[int] = np.cumsum([0, *blocks[:-1]]).tolist()

    def place(layout: Maps | None, image: int, block: int, begin: int, shift: int = 0, unit: int = 4) -> int:
        if isinstance(layout, Tiled):
            inside = (begin - before[block]) * lanes
            return unit * (image * layout.image_stride + block * layout.tile_stride + inside)
        return 0 if layout is None else unit * (image * layout.image_stride + begin * lanes + shift)

    rows = [
        (
            place(source, image, block, begin, shift, unit),
            place(target, image, block, begin),
            place(residual, image, block, begin),
            begin,
            kinds.index(size),
        )
        for image in range(output.n)
        for begin, (block, size) in zip(begins, parts, strict=True)
    ]
    work = [most if size > 1 else SINGLE * most for size in sizes] if whole else sizes
    return Tiles(np.array(rows, np.int64), kinds, np.array(work * output.n, np.float64))


def _cut(count: int, most: int, *, whole: bool) -> list[int]:
    if not whole:
        return split(count, most)
    return [most] * (count // most) + [count % most] * (count % most > 0)


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
    tile_count = len(tiles.work)
    wanted = max(chunks, -(-UNITS_PER_THREAD * threads // max(tile_count, 1)))
    per_range = max(1, -(-wanted // (len(bounds) - 1)))
    cuts: list[tuple[int, int, int, int]] = []
    for index, (begin, end) in enumerate(pairwise(bounds.tolist())):
        first, last = packs[index].tolist() if packs is not None else (0, 0)
        edges = _edges(panel_costs[begin:end], min(per_range, max(end - begin, 1)))
        cuts += [(begin + a, begin + b, first, last) for a, b in pairwise(edges)]
    cut_table = np.array(cuts, np.int32).reshape(-1, 4)
    cut_costs = np.array([panel_costs[begin:end].sum() for begin, end, _, _ in cuts], np.float64)
    # All cuts for one tile after the other, or the other way round.
    shape = (len(cuts), tile_count) if chunks > 1 else (tile_count, len(cuts))
    table = np.empty((*shape, 5), np.int32)
    if chunks > 1:
        table[:, :, 0], table[:, :, 1:] = np.arange(tile_count), cut_table[:, None]
        costs = cut_costs[:, None] * tiles.work + 1.0
    else:
        table[:, :, 0], table[:, :, 1:] = np.arange(tile_count)[:, None], cut_table
        costs = cut_costs * tiles.work[:, None] + 1.0
    return table.reshape(-1, 5), costs.reshape(-1)


def _edges(costs: NDArray[np.float64], ranges: int) -> list[int]:
    """Where panels are cut into so many ranges of nearly equal cost, at most; begin and end included."""
    if ranges == 1:
        return [0, len(costs)] if len(costs) else [0]
    total = np.concatenate([[0.0], np.cumsum(costs)])
    steps = np.arange(1, ranges) * (float(total[-1]) / ranges)
    inner: list[int] = np.searchsorted(total, steps).tolist()
    return sorted({0, *inner, len(costs)})
