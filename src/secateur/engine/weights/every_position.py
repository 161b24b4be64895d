"""Streams that keep every position of a matrix of weights, zeros too: for dense layers."""

import numpy as np

from secateur.engine.kernels.conv_form import PANEL_FIELDS
from secateur.engine.weights.streams import (
    MAX_DELTA,
    Ints,
    Streams,
    Weights,
    padded_deltas,
    padded_order,
    panel_rows,
    places_ahead,
)

# Elements that stay in the second-level cache while they are put in order.
_IN_CACHE = 1 << 16


def encode_dense(
    weight: Weights, places: Ints, rows: int, *, order: Ints | None = None, starts: Ints | None = None
) -> Streams:
    """Streams that keep every position: one list of positions for all panels (kernel option `shared_deltas`)."""
    order = padded_order(np.arange(len(weight), dtype=np.int64) if order is None else order, rows)
    return every_position(weight, places, rows, order, max(len(places), 1), starts, shared=True)


def every_position(
    weight: Weights,
    places: Ints,
    rows: int,
    order: Ints,
    length: int,
    starts: Ints | None,
    *,
    packed: bool = False,
    shared: bool = False,
) -> Streams:
    """Streams with all positions, in blocks of `length`; `shared`: all panels of the one block use the first's list."""
    groups, columns = len(order) // rows, weight.shape[1]
    begins = range(0, max(columns, 1), length)
    origin: Ints = places[::length] if len(begins) > 1 else np.zeros(1, np.int64)
    ranges = [slice(begin, begin + length) for begin in begins]
    parts = [_bridged(weight[:, own], places[own] - first) for own, first in zip(ranges, origin, strict=True)]
    counts = np.repeat([len(own) for _, own in parts], groups)
    ends = np.cumsum(counts)
    values = np.empty(int(ends[-1]) * rows, weight.dtype)
    lists: list[Ints] = []
    end = 0
    for part, own in parts:
        begin, end = end, end + groups * len(own) * rows
        _interleave(values[begin:end].reshape(groups, len(own), rows), part, order)
        lists += [np.diff(own, prepend=0)] * (1 if shared else groups)

    panels = np.zeros((len(counts), len(PANEL_FIELDS) + 1), np.int32)
    if starts is not None:
        panels[:, 0] = np.tile(starts, len(parts))
    if not packed:
        panels[:, 0] += np.repeat(origin, groups)
    panels[:, 1] = 0 if shared else ends - counts
    panels[:, 2] = (ends - counts) * rows
    panels[:, 3] = np.tile(np.arange(groups) * rows, len(parts))
    panels[:, len(PANEL_FIELDS)] = counts
    deltas = padded_deltas(np.concatenate(lists))
    panels[:, 4] = places_ahead(deltas, panels[:, 1], counts)
    costs = (counts * rows).astype(np.float64) + 2.0 * rows
    return Streams(panels, deltas, values, order, costs, int(ends[-1]))


def _interleave(values: Weights, weight: Weights, order: Ints) -> None:
    """Write the weights of all positions of all panels, (panels, positions, rows)."""
    _, columns, rows = values.shape
    count = len(weight)
    # Only what is no whole panel in order has to be copied before.
    whole = count // rows if np.array_equal(order[:count], np.arange(count)) else 0
    begun = weight[: whole * rows].reshape(whole, rows, columns)
    rest = panel_rows(weight, order[whole * rows :], rows)
    # Few panels at a time, so that their lines stay in the cache until all rows are written.
    step = max(_IN_CACHE // max(columns * rows, 1), 1)
    for source, target in ((begun, values[:whole]), (rest, values[whole:])):
        for first in range(0, len(source), step):
            few = slice(first, first + step)
            for row in range(rows):
                target[few, :, row] = source[few, row]


def _bridged(weight: Weights, places: Ints) -> tuple[Weights, Ints]:
    """The same matrix with zero columns where neighbouring positions are too far apart."""
    gaps = np.diff(places, prepend=0)
    far = np.flatnonzero(gaps > MAX_DELTA)
    if not len(far):
        return weight, places
    steps = [(i, places[i] - gaps[i] + MAX_DELTA * j) for i in far for j in range(1, -(-gaps[i] // MAX_DELTA))]
    before, added = np.array([i for i, _ in steps]), np.array([p for _, p in steps])
    return np.insert(weight, before, 0, axis=1), np.insert(places, before, added)
