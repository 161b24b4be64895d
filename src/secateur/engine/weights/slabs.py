"""Weights of matrix products with outputs in lanes: dense slabs, or slabs of the nonzero blocks of outputs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secateur.engine.weights.streams import Weights


@dataclass(frozen=True)
class Slabs:
    """What engine.kernels.linear reads.

    weights  dense: (slabs, inputs, width); sparse: (entries, lanes)
    indices  sparse: (entries, lanes / block) u16 input of each block
    starts   sparse: (slabs + 1,) first entry of each slab
    costs    (slabs,) weights read
    """

    weights: Weights
    indices: NDArray[np.uint16]
    starts: NDArray[np.int64]
    costs: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""
        return self.weights.nbytes + self.indices.nbytes + self.starts.nbytes


def dense_slabs(weight: Weights, width: int) -> Slabs:
    """Slabs of `width` outputs of a matrix (outputs, inputs)."""
    outputs, inputs = weight.shape
    slabs = -(-outputs // width)
    padded = np.zeros((slabs * width, inputs), weight.dtype)
    padded[:outputs] = weight
    packed = np.ascontiguousarray(padded.reshape(slabs, width, inputs).transpose(0, 2, 1))
    costs = np.full(slabs, float(width * inputs))
    return Slabs(packed, np.zeros(0, np.uint16), np.zeros(0, np.int64), costs)


def sparse_slabs(weight: Weights, lanes: int, block: int = 1) -> Slabs:
    """Slabs of `lanes` outputs of a matrix (outputs, inputs up to 65536).

    block    neighbouring outputs that share an index; divides `lanes`
    """
    outputs, inputs = weight.shape
    slabs, per_slab = -(-outputs // lanes), lanes // block
    padded = np.zeros((slabs * per_slab, block, inputs), weight.dtype)
    padded.reshape(-1, inputs)[:outputs] = weight
    row, column = np.nonzero((padded != 0).any(axis=1))
    counts = np.bincount(row, minlength=slabs * per_slab)
    lengths = counts.reshape(slabs, per_slab).max(axis=1)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rank = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    entry = starts[row // per_slab] + rank
    values = np.zeros((int(starts[-1]), per_slab, block), weight.dtype)
    indices = np.zeros((int(starts[-1]), per_slab), np.uint16)
    values[entry, row % per_slab] = padded[row, :, column]
    indices[entry, row % per_slab] = column
    costs = lengths * float(lanes) + 1
    return Slabs(values.reshape(-1, lanes), indices, starts.astype(np.int64), costs)
