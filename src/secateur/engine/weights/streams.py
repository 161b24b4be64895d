"""Streams that a convolution kernel walks, and what all ways to write them share.

A position is stored as the distance to the position before it, in units of `unit` bytes, in 16 bits; the first of a
group counts from the panel's own start. A distance that does not fit passes over intermediate positions with weight 0.
Bytes per nonzero: 4 + 2 / (rows per position). A weight is a float32, or one uint32: four 8-bit integers or two bf16
numbers of neighbouring input channels, zero when all of them are.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from secateur.engine.kernels.conv_form import AHEAD

MAX_DELTA = 0xFFFF

Weights = NDArray[np.float32 | np.uint32]
Ints = NDArray[np.int64]
Code = TypeVar("Code", bound=np.generic)


@dataclass(frozen=True)
class Streams:
    """Streams of one convolution.

    panels     (blocks * groups of rows, words) i32, records as the kernel reads them
    deltas     u16; of streams by bytes i32, which are places
    weights    in the order in which the kernel meets them
    rows       (padded rows,) output channel of each row of each panel; -1 where a row only pads
    costs      (panels,) multiply-adds per pixel, padding zeros included, plus the overhead of a panel
    positions  number of positions walked in all
    """

    panels: NDArray[np.int32]
    deltas: NDArray[np.uint16 | np.int32]
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


def panel_rows(weight: Weights, order: Ints, rows: int) -> Weights:
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
