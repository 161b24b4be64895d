"""Tiles of pixels and units of work for the convolution kernel.

A map of n vectors is cut into ceil(n / V) tiles of nearly equal size, so there is no short remainder (13 vectors with
V = 6 are 5 + 4 + 4). A unit is one tile with a range of panels; the order of the units is the loop order, and threads
get contiguous ranges of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secateur.engine.layout import Planes
from secateur.engine.weights.streams import Streams

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
    streams: Streams,
    panels: int,
    threads: int,
    *,
    bounds: NDArray[np.int64] | None = None,
    packs: NDArray[np.int64] | None = None,
    panel_bytes: float = float("inf"),
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Unit table of the kernel, and the cost of each unit.

    panels       of one block of positions
    bounds       panel ranges that may not be joined (groups), (groups + 1,)
    packs        (groups, 2) positions that a packed tile holds, one range for each range of `bounds`
    panel_bytes  weights of one range of panels that all tiles use before the next range is begun: what may stay in cache
    """
    weight = streams.costs[: len(streams.panels)].reshape(-1, panels).sum(0) if panels else np.zeros(0)
    bounds = np.array([0, panels]) if bounds is None else bounds
    chunks = max(1, -(-UNITS_PER_THREAD * threads // max(len(tiles.sizes), 1)))
    resident = max(1, int(np.ceil(streams.nbytes / panel_bytes)))
    per_range = max(1, -(-max(chunks, resident) // (len(bounds) - 1)))
    cuts: list[tuple[int, int, int, int]] = []
    for index, (begin, end) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        pack = packs[index] if packs is not None else (0, 0)
        total = np.concatenate([[0.0], np.cumsum(weight[begin:end])])
        wanted = np.linspace(0, total[-1], min(per_range, max(end - begin, 1)) + 1)
        edges = np.unique(np.concatenate([[0], np.searchsorted(total, wanted[1:-1]), [end - begin]]))
        cuts += [
            (int(begin + a), int(begin + b), int(pack[0]), int(pack[1]))
            for a, b in zip(edges[:-1], edges[1:], strict=True)
        ]
    units: list[tuple[int, int, int, int, int]] = []
    costs: list[float] = []
    tile_numbers = range(len(tiles.sizes))
    pairs = (
        [(tile, cut) for cut in cuts for tile in tile_numbers]
        if resident > 1
        else [(tile, cut) for tile in tile_numbers for cut in cuts]
    )
    for tile, cut in pairs:
        units.append((tile, *cut))
        costs.append(float(weight[cut[0] : cut[1]].sum() * tiles.sizes[tile]) + 1.0)
    return np.array(units, np.int32).reshape(-1, 5), np.array(costs)
