"""Weights of a matrix-vector product: slabs of outputs, dense or with the nonzeros of each output in a lane."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Slabs:
    """What engine.kernels.linear reads.

    weights  dense: (slabs, inputs, width); sparse: (entries, lanes)
    indices  sparse: (entries, lanes) u16 input of each weight
    starts   sparse: (slabs + 1,) first entry of each slab
    costs    (slabs,) weights read
    """

    weights: Floats
    indices: NDArray[np.uint16]
    starts: NDArray[np.int64]
    costs: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""
        return self.weights.nbytes + self.indices.nbytes + self.starts.nbytes


def dense_slabs(weight: Floats, width: int) -> Slabs:
    """Slabs of `width` outputs of a matrix (outputs, inputs)."""
    outputs, inputs = weight.shape
    slabs = -(-outputs // width)
    padded = np.zeros((slabs * width, inputs), np.float32)
    padded[:outputs] = weight
    packed = np.ascontiguousarray(padded.reshape(slabs, width, inputs).transpose(0, 2, 1))
    costs = np.full(slabs, float(width * inputs))
    return Slabs(packed, np.zeros(0, np.uint16), np.zeros(0, np.int64), costs)


def sparse_slabs(weight: Floats, lanes: int) -> Slabs:
    """Slabs of `lanes` outputs of a matrix (outputs, inputs up to 65536)."""
    outputs, _ = weight.shape
    slabs = -(-outputs // lanes)
    row, column = np.nonzero(weight)
    counts = np.bincount(row, minlength=slabs * lanes)
    lengths = counts.reshape(slabs, lanes).max(axis=1)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rank = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    entry = starts[row // lanes] + rank
    values = np.zeros((int(starts[-1]), lanes), np.float32)
    indices = np.zeros((int(starts[-1]), lanes), np.uint16)
    values[entry, row % lanes] = weight[row, column]
    indices[entry, row % lanes] = column
    return Slabs(values, indices, starts.astype(np.int64), lengths * float(lanes) + 1)
