"""From a matrix of weights to streams, position by position as its nonzero rows ask for.

panel g = rows order[g R .. g R + R), block b of positions
pattern of position k in a panel = the set of its nonzero rows, put together from patterns that the kernel has, or
enlarged to the smallest one
stream: positions of one panel by pattern, ascending inside a pattern, each with a weight per row of its pattern
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.engine.kernels.conv_form import PANEL_FIELDS
from secateur.engine.weights.every_position import every_position
from secateur.engine.weights.streams import (
    MAX_DELTA,
    Ints,
    Streams,
    Weights,
    by_block,
    distances,
    nonzeros,
    padded_deltas,
    padded_order,
    panel_rows,
    places_ahead,
)


def covers(patterns: tuple[int, ...], rows: int) -> NDArray[np.int64]:
    """For every set of nonzero rows the indices of the kernel patterns that a position is walked with, -1 behind them.

    The smallest pattern that contains the set; where there is none, patterns that it consists of, the largest first.
    """
    found: list[list[int]] = [[]]
    for code in range(1, 2**rows):
        containing = [(p.bit_count(), i) for i, p in enumerate(patterns) if p & code == code]
        parts, left = ([min(containing)[1]], 0) if containing else (list[int](), code)
        while left:
            inside = [(-p.bit_count(), i) for i, p in enumerate(patterns) if p & left == p]
            if not inside:
                raise ValueError(f"no pattern of {patterns} contains {code:b}, and it does not consist of any")
            parts.append(min(inside)[1])
            left &= ~patterns[parts[-1]]
        found.append(parts)
    most = max(map(len, found))
    return np.array([parts + [-1] * (most - len(parts)) for parts in found], np.int64)


def encode(
    weight: Weights,
    places: Ints,
    rows: int,
    patterns: tuple[int, ...],
    *,
    order: Ints | None = None,
    block: int | None = None,
    starts: Ints | None = None,
    packed: bool = False,
    dense: bool = False,
) -> Streams:
    """Streams of a matrix.

    weight    (O, K)
    places    (K,) ascending place of every position, in units
    rows      R
    patterns  of the kernel; every set of rows must fit into one, or consist of some
    order     order of the O rows in panels; as they are when not given
    block     positions per block; all when not given. Panels are ordered block by block
    starts    (panels of one block,) place that a panel's positions count from (groups of a grouped convolution)
    packed    the tile in scratch memory begins with the block's first position; else with the first of all
    dense     keep zeros too, as if they were weights
    """
    order = padded_order(np.arange(len(weight), dtype=np.int64) if order is None else order, rows)
    groups, columns = len(order) // rows, weight.shape[1]
    length = max(min(block or columns, columns), 1)
    if dense:
        return every_position(weight, places, rows, order, length, starts, packed=packed)
    of_panels = panel_rows(weight, order, rows)
    blocks = max(-(-columns // length), 1)
    kinds = len(patterns)

    kept = by_block(_kept(of_panels, single=kinds == 1), length)
    found, ends = nonzeros(kept)
    panel = np.repeat(np.arange(len(kept)), np.diff(ends, prepend=0))
    kind = segment = panel
    if kinds > 1:
        walked = covers(patterns, rows)[kept.reshape(-1)[found]]
        of, part = np.nonzero(walked >= 0)
        found, panel, kind = found[of], panel[of], walked[of, part]
        segment = panel * kinds + kind
        # Numbers of 16 bits are sorted by their digits.
        small = segment.astype(np.uint16) if len(kept) * kinds <= 1 << 16 else segment
        sorted_ = np.argsort(small, kind="stable")
        found, panel, kind, segment = found[sorted_], panel[sorted_], kind[sorted_], segment[sorted_]
    counts = np.bincount(segment, minlength=len(kept) * kinds)

    block_of: Ints = np.repeat(np.arange(blocks, dtype=np.int64), groups)
    position = found + ((block_of - np.arange(len(kept))) * length)[panel]
    origin: Ints = places[::length] if blocks > 1 else np.zeros(1, np.int64)
    begins = (np.cumsum(counts) - counts)[counts > 0]
    deltas = distances(places[position])
    deltas[begins] = places[position[begins]] - origin[block_of[panel[begins]]]

    sizes = np.array([p.bit_count() for p in patterns], np.int64)
    stream, at = deltas, slice(None)
    if len(deltas) and deltas.max() > MAX_DELTA:
        repeats = np.maximum(-(-deltas // MAX_DELTA), 1)
        at = np.cumsum(repeats) - 1
        stream = np.full(int(at[-1]) + 1, MAX_DELTA, np.int64)
        stream[at] = deltas - (repeats - 1) * MAX_DELTA
        counts = np.bincount(segment, weights=repeats, minlength=len(counts)).astype(np.int64)
        if kinds > 1:
            kind = np.repeat(kind, repeats)
    elements = of_panels.reshape(-1)
    source = position + (np.arange(len(kept)) % groups * (rows * columns))[panel]
    if kinds == 1:
        values = np.zeros((len(stream), rows), weight.dtype)
        for r in range(rows):
            values[at, r] = elements[source + r * columns]
    else:
        values = _values(elements, source, kind, at, patterns, columns)

    counts = counts.reshape(blocks * groups, kinds)
    panels = np.zeros((blocks * groups, len(PANEL_FIELDS) + kinds), np.int32)
    if starts is not None:
        panels[:, 0] = np.tile(starts, blocks)
    if not packed:
        panels[:, 0] += np.repeat(origin, groups)
    panels[1:, 1] = np.cumsum(counts.sum(1))[:-1]
    panels[1:, 2] = np.cumsum(counts @ sizes)[:-1]
    panels[:, 3] = np.tile(np.arange(groups) * rows, blocks)
    panels[:, len(PANEL_FIELDS) :] = counts
    deltas = padded_deltas(stream)
    panels[:, 4] = places_ahead(deltas, panels[:, 1], counts[:, 0])
    costs = (counts @ sizes).astype(np.float64) + 2.0 * rows
    return Streams(panels, deltas, values.reshape(-1), order, costs, int(counts.sum()))


def _kept(of_panels: Weights, *, single: bool) -> NDArray[np.unsignedinteger[Any]]:
    """(panels, columns) which rows of a panel have a nonzero, as bits; with a single pattern, whether one has."""
    groups, rows, columns = of_panels.shape
    kind = np.uint8 if single or rows <= 8 else np.uint32
    bits = (of_panels != 0).view(np.uint8)
    codes = np.zeros((groups, columns), kind)
    for r in range(rows):
        codes |= bits[:, r] if single else bits[:, r].astype(kind) << r
    return codes


def _values(
    elements: Weights, source: Ints, kind: Ints, at: Ints | slice, patterns: tuple[int, ...], columns: int
) -> Weights:
    """Weights of positions that have different sets of rows.

    source   (positions,) the element of each position's first row
    kind     (steps,) pattern of each step; a position is the last of its steps, `at`
    columns  elements from one row to the next
    """
    bits: Ints = np.array(patterns, np.int64)[:, None] >> np.arange(max(patterns).bit_length()) & 1
    before = np.cumsum(bits, axis=1) - bits
    sizes = bits.sum(axis=1)[kind]
    ends = np.cumsum(sizes)
    values = np.zeros(int(ends[-1]) if len(ends) else 0, elements.dtype)
    begins, kind = (ends - sizes)[at], kind[at]
    for row in range(bits.shape[1]):
        chosen = np.flatnonzero((bits[:, row] != 0)[kind])
        values[begins[chosen] + before[:, row][kind[chosen]]] = elements[source[chosen] + row * columns]
    return values
