"""From a matrix of weights to the streams that a convolution kernel walks.

    panel g = rows order[g R .. g R + R), block b of positions
    pattern of position k in a panel = the set of its nonzero rows, put together from patterns that the kernel has, or
    enlarged to the smallest one
    stream: positions of one panel by pattern, ascending inside a pattern, each with a weight per row of its pattern

A position is stored as the distance to the position before it, in units of `unit` bytes, in 16 bits; the first of a
group counts from the panel's own start. A distance that does not fit passes over intermediate positions with weight 0.
Bytes per nonzero: 4 + 2 / (rows per position). A weight is a float32, or one uint32: four 8-bit integers or two bf16
numbers of neighbouring input channels, zero when all of them are.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from secateur.engine.kernels.conv_form import AHEAD, PANEL_FIELDS

MAX_DELTA = 0xFFFF
# Elements that stay in the second-level cache while they are put in order.
_IN_CACHE = 1 << 16

Weights = NDArray[np.float32 | np.uint32]
Ints = NDArray[np.int64]
Code = TypeVar("Code", bound=np.generic)


@dataclass(frozen=True)
class Streams:
    """Streams of one convolution.

    panels     (blocks * groups of rows, words) i32, records as the kernel reads them
    deltas     u16
    weights    in the order in which the kernel meets them
    rows       (padded rows,) output channel of each row of each panel; -1 where a row only pads
    costs      (panels,) multiply-adds per pixel, padding zeros included, plus the overhead of a panel
    positions  number of positions walked in all
    """

    panels: NDArray[np.int32]
    deltas: NDArray[np.uint16]
    weights: Weights
    rows: Ints
    costs: NDArray[np.float64]
    positions: int

    @property
    def nbytes(self) -> int:
        """Memory of the streams."""
        return self.panels.nbytes + self.deltas.nbytes + self.weights.nbytes


def padded_order(order: Ints, rows: int) -> Ints:
    """Row order filled with -1 to whole panels."""
    return np.concatenate([order, np.full(-len(order) % rows, -1, np.int64)])


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
        return _every_position(weight, places, rows, order, length, starts, packed=packed)
    panel_rows = _panel_rows(weight, order, rows)
    blocks = max(-(-columns // length), 1)
    kinds = len(patterns)

    kept = by_block(_kept(panel_rows, single=kinds == 1), length)
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
    elements = panel_rows.reshape(-1)
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


def _panel_rows(weight: Weights, order: Ints, rows: int) -> Weights:
    """(panels, rows, columns) the rows of every panel; the matrix itself where they are in order."""
    count = len(weight)
    if np.array_equal(order[:count], np.arange(count)):
        padded = np.ascontiguousarray(weight)
        if len(order) > count:
            padded = np.zeros((len(order), weight.shape[1]), weight.dtype)
            padded[:count] = weight
    else:
        padded = np.take(weight, np.maximum(order, 0), axis=0)
        padded[order < 0] = 0
    return padded.reshape(len(order) // rows, rows, weight.shape[1])


def _kept(panel_rows: Weights, *, single: bool) -> NDArray[np.unsignedinteger[Any]]:
    """(panels, columns) which rows of a panel have a nonzero, as bits; with a single pattern, whether one has."""
    groups, rows, columns = panel_rows.shape
    kind = np.uint8 if single or rows <= 8 else np.uint32
    bits = (panel_rows != 0).view(np.uint8)
    codes = np.zeros((groups, columns), kind)
    for r in range(rows):
        codes |= bits[:, r] if single else bits[:, r].astype(kind) << r
    return codes


def by_block(codes: NDArray[Code], length: int) -> NDArray[Code]:
    """(rows, columns) -> (blocks x rows, length), block after block; the last one is filled up with zeros."""
    groups, columns = codes.shape
    blocks = max(-(-columns // length), 1)
    if blocks == 1:
        return codes
    whole = codes
    if columns % length:
        whole = np.zeros((groups, blocks * length), codes.dtype)
        whole[:, :columns] = codes
    return np.ascontiguousarray(whole.reshape(groups, blocks, length).transpose(1, 0, 2)).reshape(-1, length)


def nonzeros(codes: NDArray[np.generic]) -> tuple[Ints, Ints]:
    """Flat indices of what is not zero in a matrix, and up to which of them each row goes."""
    # numpy looks through booleans several times as fast as through numbers.
    flags = codes if codes.dtype == np.bool_ else codes != 0
    found = np.flatnonzero(flags)
    edges: Ints = np.arange(1, len(codes) + 1, dtype=np.int64) * codes.shape[1]
    return found, np.searchsorted(found, edges)


def distances(places: Ints) -> Ints:
    """From each place to the next; the first one is left to be written."""
    gaps = np.empty_like(places)
    np.subtract(places[1:], places[:-1], out=gaps[1:])
    return gaps


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


def encode_dense(
    weight: Weights, places: Ints, rows: int, *, order: Ints | None = None, starts: Ints | None = None
) -> Streams:
    """Streams that keep every position: one list of positions for all panels (kernel option `shared_deltas`)."""
    order = padded_order(np.arange(len(weight), dtype=np.int64) if order is None else order, rows)
    return _every_position(weight, places, rows, order, max(len(places), 1), starts, shared=True)


def _every_position(
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
    rest = _panel_rows(weight, order[whole * rows :], rows)
    # Few panels at a time, so that their lines stay in the cache until all rows are written.
    step = max(_IN_CACHE // max(columns * rows, 1), 1)
    for source, target in ((begun, values[:whole]), (rest, values[whole:])):
        for first in range(0, len(source), step):
            few = slice(first, first + step)
            for row in range(rows):
                target[few, :, row] = source[few, row]


def padded_deltas(deltas: Ints) -> NDArray[np.uint16]:
    """The stream with room behind its end, where a kernel looks AHEAD."""
    padded = np.zeros(len(deltas) + AHEAD, np.uint16)
    padded[: len(deltas)] = deltas
    return padded


def places_ahead(deltas: NDArray[np.uint16], begins: NDArray[np.int32], counts: Ints) -> Ints:
    """Place of the last of the first AHEAD positions of each panel's first pattern, from the panel's start."""
    place = np.zeros(len(begins), np.int64)
    for i in range(AHEAD):
        place += np.where(i < counts, deltas[begins + i], 0)
    return place


def _bridged(weight: Weights, places: Ints) -> tuple[Weights, Ints]:
    """The same matrix with zero columns where neighbouring positions are too far apart."""
    gaps = np.diff(places, prepend=0)
    far = np.flatnonzero(gaps > MAX_DELTA)
    if not len(far):
        return weight, places
    steps = [(i, places[i] - gaps[i] + MAX_DELTA * j) for i in far for j in range(1, -(-gaps[i] // MAX_DELTA))]
    before, added = np.array([i for i, _ in steps]), np.array([p for _, p in steps])
    return np.insert(weight, before, 0, axis=1), np.insert(places, before, added)
