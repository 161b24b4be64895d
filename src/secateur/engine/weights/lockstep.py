"""Streams of rows that walk in lockstep, for very sparse unstructured weights.

    block b of positions: rows sorted by their number of nonzeros, panel g = R rows next to each other in that order
    turn i of a panel:    the i-th nonzero of each of its rows; rows that have no more repeat their place with weight 0

Sorting makes the rows of a panel nearly equally long, so few zeros are added. The sorted order differs from block to
block, so every panel has its own rows in the row table. Bytes per nonzero: 6.
"""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.kernels.conv import PANEL_FIELDS
from secateur.engine.weights.streams import MAX_DELTA, Floats, Ints, Streams, padded_deltas, padded_order


def encode_lockstep(
    weight: Floats,
    places: Ints,
    rows: int,
    *,
    groups: int = 1,
    block: int | None = None,
    group_places: int = 0,
    packed: bool = False,
) -> Streams:
    """Streams of a matrix.

    weight        (O, K)
    places        (K,) ascending place of every position, in units
    rows          R
    groups        of a grouped convolution; panels do not hold rows of two groups
    block         positions per block; all when not given. Panels are ordered block by block
    group_places  units from one group's first position to the next one's
    packed        the tile in scratch memory begins with the block's first position; else with the first of all
    """
    columns, per_group = weight.shape[1], len(weight) // groups
    length = block or max(columns, 1)
    parts: list[tuple[NDArray[np.int32], NDArray[np.int64], Floats, Ints]] = []
    delta_end = row_end = 0
    for begin in range(0, max(columns, 1), length):
        for group in range(groups):
            own = slice(group * per_group, (group + 1) * per_group)
            part = weight[own, begin : begin + length]
            origin = int(places[begin]) if columns else 0
            lengths, deltas, values, order = _panels(part, places[begin : begin + length] - origin, rows)
            panels = np.zeros((len(lengths), len(PANEL_FIELDS) + 1), np.int32)
            panels[:, 0] = group * group_places + (0 if packed else origin)
            panels[:, 1] = panels[:, 2] = delta_end + np.concatenate([[0], np.cumsum(lengths * rows)])[:-1]
            panels[:, 3] = row_end + np.arange(len(lengths)) * rows
            panels[:, len(PANEL_FIELDS)] = lengths
            delta_end += int(lengths.sum()) * rows
            row_end += len(order)
            parts.append((panels, deltas, values, np.where(order >= 0, order + group * per_group, -1)))
    panels, deltas, values, order = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    counts = panels[:, len(PANEL_FIELDS)] * float(rows)
    return Streams(panels, padded_deltas(deltas), values, order, counts + 2.0 * rows, int(counts.sum()))


def _panels(weight: Floats, places: Ints, rows: int) -> tuple[Ints, Ints, Floats, Ints]:
    """Turns of each panel; distances and weights (turns, R), panel after panel; the order of the rows."""
    kept = weight != 0
    counts = np.count_nonzero(kept, axis=1)
    row = np.repeat(np.arange(len(weight)), counts)
    column = np.flatnonzero(kept) - row * weight.shape[1]
    place = places[column]
    gaps = np.diff(place, prepend=0)
    first = (np.cumsum(counts) - counts)[counts > 0]
    gaps[first] = place[first]
    repeats = None
    if len(gaps) and gaps.max() > MAX_DELTA:
        repeats = np.maximum(-(-gaps // MAX_DELTA), 1)
        counts = np.bincount(row, weights=repeats, minlength=len(weight)).astype(np.int64)

    order = padded_order(np.argsort(-counts, kind="stable"), rows)
    sizes = np.where(order >= 0, counts[np.maximum(order, 0)], 0)
    lengths = sizes.reshape(-1, rows).max(axis=1)
    begins = np.concatenate([[0], np.cumsum(lengths)])[:-1] * rows
    rank = np.empty(len(weight), np.int64)
    rank[order[order >= 0]] = np.flatnonzero(order >= 0)

    deltas = np.zeros(int(lengths.sum()) * rows, np.int64)
    values = np.zeros(len(deltas), np.float32)
    # Turn t of a row is taken at base + t R: those of an element, and of the steps over a long distance before it.
    base = begins[rank // rows] + rank % rows - (np.cumsum(counts) - counts) * rows
    slot = (base[row] if repeats is None else np.repeat(base[row], repeats)) + np.arange(int(counts.sum())) * rows
    if repeats is not None:
        deltas[slot] = MAX_DELTA
        slot = slot[np.cumsum(repeats) - 1]
        gaps -= (repeats - 1) * MAX_DELTA
    deltas[slot] = gaps
    values[slot] = weight[kept]
    return lengths, deltas, values, order
