"""What each way to compute a matrix product costs, predicted: cycles of one thread.

    dense      max(first tile, reading W) + other tiles        a tile of rows computes while weights arrive for it
    gathered   max(entries (2 t + indices (0.33 t + 0.8 m)), reading W)         t tiles, m rows, indices of an entry
    pixels     the convolution (engine.cost) + 0.6 per element of x and y that is turned

Measured on Cascade Lake (one thread, AVX-512, all ways in turns) for 1 to 64 rows, weights of 256 x 256 to 4096 x 4096,
and 50 to 95 % zeros, unstructured and 1x4; microseconds for 768 x 768 and 1000 x 2048:

    rows    768 dense   gathered, pixels at 80 %   1x4 80 %      2048 dense   gathered, pixels at 80 %   1x4 80 %
    1             142         77        109        24    68             618        281       401        147   252
    2             139        102        111        32    70             572        350       408        162   263
    4             140        192        114        48    73             585        654       411        222   298
    8             145          -        114         -    74             626          -       410          -   280
    16            233          -        127         -    80             899          -       451          -   286
    64            676          -        326         -   217            2926          -      1122          -   816

Gathering wins for one row, and for two to four of blocks; pixels from 3 rows on, dense below 70 to 80 % zeros and
wherever the weights fit the second-level cache and rows are few.
"""

import numpy as np

from secateur.engine.registers import LATENCY, product_tile
from secateur.engine.target import Target
from secateur.engine.weights.streams import Weights

BYTES_PER_CYCLE_FROM_L2 = 24.0
BYTES_PER_CYCLE = 6.0
CYCLES_PER_ENTRY = 2.0
CYCLES_PER_INDEX = 0.33
CYCLES_PER_INPUT = 0.8
CYCLES_PER_TURNED_ELEMENT = 0.6
# Rows whose sums a gathering tile holds.
GATHERED_ROWS = 4


def dense_cycles(rows: int, inputs: int, outputs: int, target: Target) -> float:
    """Dense slabs."""
    slab, together = product_tile(rows, outputs, 1, target)
    tiles, slabs = -(-rows // together), -(-outputs // (slab * target.lanes))
    height = rows / tiles
    tile = slabs * inputs * max(slab * height / 2, (slab + height) / 2, LATENCY)
    return max(tile, _reading(4.0 * inputs * outputs, target)) + (tiles - 1) * tile


def gathered_cycles(rows: int, weight: Weights, block: int, target: Target) -> float:
    """Slabs of the nonzero blocks of `block` outputs; zeros fill up each slab to its longest row."""
    entries, indices = gathered_entries(weight, block, target.lanes), target.lanes // block
    tiles = -(-rows // GATHERED_ROWS)
    each = CYCLES_PER_ENTRY * tiles + indices * (CYCLES_PER_INDEX * tiles + CYCLES_PER_INPUT * rows)
    return max(entries * each, _reading(entries * (4.0 * target.lanes + 2.0 * indices), target))


def gathered_entries(weight: Weights, block: int, lanes: int) -> int:
    """Vectors of weights that are stored (weights.slabs)."""
    outputs, inputs = weight.shape
    per_slab, slabs = lanes // block, -(-outputs // lanes)
    kept = np.zeros((slabs * lanes, inputs), bool)
    kept[:outputs] = weight
    counts = np.count_nonzero(kept.reshape(-1, block, inputs).any(axis=1), axis=1)
    return int(counts.reshape(slabs, per_slab).max(axis=1).sum())


def turned_cycles(rows: int, inputs: int, outputs: int, target: Target) -> float:
    """Bringing rows into planes, and the result back."""
    return CYCLES_PER_TURNED_ELEMENT * max(rows, target.lanes) * (inputs + outputs)


def _reading(size: float, target: Target) -> float:
    return size / (BYTES_PER_CYCLE_FROM_L2 if size <= 0.6 * target.l2 else BYTES_PER_CYCLE)
