"""Streams of rows that walk in lockstep, for very sparse unstructured weights.

    block b of positions: rows sorted by their number of nonzeros, panel g = R rows next to each other in that order
    turn i of a panel:    the i-th nonzero of each of its rows; rows that have no more repeat their place with weight 0

Sorting makes the rows of a panel nearly equally long, so few zeros are added. The sorted order differs from block to
block, so every panel has its own rows in the row table. Bytes per nonzero: 6.
"""

import numpy as np

from secateur.engine.kernels.conv_form import AHEAD, PANEL_FIELDS
from secateur.engine.weights.streams import MAX_DELTA, Ints, Streams, Weights, by_block, distances, nonzeros


def encode_lockstep(
    weight: Weights,
    places: Ints,
    rows: int,
    *,
    groups: int = 1,
    block: int | None = None,
    group_places: int = 0,
    packed: bool = False,
    sort: bool = True,
) -> Streams:
    """Streams of a matrix.

    weight        (O, K)
    places        (K,) ascending place of every position, in units
    rows          R
    groups        of a grouped convolution; panels do not hold rows of two groups
    block         positions per block; all when not given. Panels are ordered block by block
    group_places  units from one group's first position to the next one's
    packed        the tile in scratch memory begins with the block's first position; else with the first of all
    sort          rows by their length; else they stay in order, so that those of a quad are in one panel
    """
    columns, per_group = weight.shape[1], len(weight) // groups
    length = min(block or columns, columns) or 1
    blocks = max(-(-columns // length), 1)
    origin = places[::length] if columns else np.zeros(1, np.int64)
    counts, gaps, kept = _walks(weight, places, origin, length)
    steps, repeats = counts, None
    if len(gaps) and gaps.max() > MAX_DELTA:
        repeats = np.maximum(-(-gaps // MAX_DELTA), 1)
        ends = np.cumsum(counts)
        total = np.concatenate([[0], np.cumsum(repeats)])
        steps = total[ends] - total[ends - counts]
        gaps -= (repeats - 1) * MAX_DELTA

    # A part is a block of positions of one group: its rows are sorted, and filled up to whole panels.
    parts = steps.reshape(blocks * groups, per_group)
    order = np.full((len(parts), -(-per_group // rows) * rows), -1, np.int64)
    order[:, :per_group] = np.argsort(-parts, axis=1, kind="stable") if sort else np.arange(per_group)
    real = np.flatnonzero(order >= 0)
    row = order.reshape(-1)[real] + np.repeat(np.arange(len(parts)) * per_group, per_group)
    sizes = np.zeros(order.size, np.int64)
    sizes[real] = steps[row]
    lengths = sizes.reshape(-1, rows).max(axis=1)
    begins = (np.cumsum(lengths) - lengths) * rows
    rank = np.empty(len(steps), np.int64)
    rank[row] = real

    deltas = np.zeros(int(lengths.sum()) * rows + AHEAD, np.uint16)
    values = np.zeros(len(deltas) - AHEAD, weight.dtype)
    # Turn t of a row is taken at base + t R: those of an element, and of the steps over a long distance before it.
    base = begins[rank // rows] + rank % rows - (np.cumsum(steps) - steps) * rows
    slot = np.repeat(base, steps)
    slot += np.arange(0, len(slot) * rows, rows)
    if repeats is not None:
        deltas[slot] = MAX_DELTA
        slot = slot[np.cumsum(repeats) - 1]
    deltas[slot] = gaps
    values[slot] = kept

    group = np.tile(np.arange(groups), blocks)
    panels = np.zeros((len(parts), order.shape[1] // rows, len(PANEL_FIELDS) + 1), np.int32)
    panels[:, :, 0] = (group * group_places + (0 if packed else np.repeat(origin, groups)))[:, None]
    panels[:, :, 1] = panels[:, :, 2] = begins.reshape(panels.shape[:2])
    panels[:, :, 3] = np.arange(0, order.size, rows).reshape(panels.shape[:2])
    panels[:, :, len(PANEL_FIELDS)] = lengths.reshape(panels.shape[:2])
    order = np.where(order >= 0, order + (group * per_group)[:, None], -1).reshape(-1)
    panels = panels.reshape(-1, panels.shape[2])
    costs = (lengths * rows).astype(np.float64) + 2.0 * rows
    return Streams(panels, deltas, values, order, costs, len(values))


def _walks(weight: Weights, places: Ints, origin: Ints, length: int) -> tuple[Ints, Ints, Weights]:
    """What every row of every block of positions walks over.

    origin     (blocks,) place that a block's positions count from
    returns    (blocks x O,) nonzeros of each row, block after block; for each nonzero its distance from the one before
               it, or from the origin, and its weight
    """
    rows, columns = weight.shape
    kept = by_block(weight != 0, length)
    found, ends = nonzeros(kept)
    counts = np.diff(ends, prepend=0)
    # From an element of a block to its position, and to the same element of the whole matrix.
    block, row = np.divmod(np.arange(len(kept)), rows)
    position = np.subtract(found, np.repeat((np.arange(len(kept)) - block) * length, counts), out=found)
    place = places[position]
    gaps = distances(place)
    first = (ends - counts)[counts > 0]
    gaps[first] = place[first] - origin[block[counts > 0]]
    position += np.repeat(row * columns, counts)
    return counts, gaps, weight.reshape(-1)[position]
