"""The structure table of tensors: how many zeros, and whether whole rows, kernels or filters vanish.

    Fine    zero weights                     2D   kernels (one filter x one input channel) entirely zero
    3D      filters entirely zero            Ch   input channels entirely zero
    Rows    2-D tensors: input features entirely zero       Cols    2-D tensors: output features entirely zero

All in percent. Rows and Cols are those of the transposed matrix and belong to 2-D tensors only; 2D, 3D and Ch
belong to convolutions only. For 1x1 convolutions 2D equals Fine. Standard deviation (of a sample) and means
run over all elements, zeros included.

Source: the tables in the schedule files of Distiller and DeGirum (columns and conventions).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secateur.graph.table import dims, text_table

HEADERS = (
    "name", "shape", "NNZ (dense)", "NNZ",
    "Cols %", "Rows %", "Ch %", "2D %", "3D %", "Fine %", "Std", "Mean", "Abs-Mean",
)  # fmt: skip


@dataclass(frozen=True)
class StructureRow:
    """Zeros of one tensor, in percent of its columns, rows, channels, kernels, filters and weights."""

    name: str
    shape: tuple[int, ...]
    dense: int
    nonzeros: int
    columns: float
    rows: float
    channels: float
    kernels: float
    filters: float
    fine: float
    std: float
    mean: float
    abs_mean: float

    def cells(self) -> tuple[str, ...]:
        """The row as text, five decimals as in the sources."""
        zeros = (self.columns, self.rows, self.channels, self.kernels, self.filters, self.fine)
        moments = (self.std, self.mean, self.abs_mean)
        figures = [f"{value:.5f}" for value in (*zeros, *moments)]
        return (self.name, dims(self.shape), str(self.dense), str(self.nonzeros), *figures)


@dataclass(frozen=True)
class StructureTable:
    """One row per tensor; the total counts weights and zeros only."""

    rows: tuple[StructureRow, ...]

    @property
    def total(self) -> StructureRow:
        dense = sum(row.dense for row in self.rows)
        nonzeros = sum(row.nonzeros for row in self.rows)
        fine = 100.0 * (dense - nonzeros) / dense if dense else 0.0
        return StructureRow("total", (), dense, nonzeros, 0.0, 0.0, 0.0, 0.0, 0.0, fine, 0.0, 0.0, 0.0)

    def __str__(self) -> str:
        rows = [row.cells() for row in (*self.rows, self.total)]
        return text_table(HEADERS, rows, left=2, total=True)


def structure_table(tensors: Mapping[str, NDArray[np.floating]]) -> StructureTable:
    """The structure table of named weight tensors, in the order given.

    tensors    convolutions (C_out, C_in/groups, kernel...) and linear weights (C_out, C_in)
    """
    return StructureTable(tuple(_row(name, tensor) for name, tensor in tensors.items()))


def _row(name: str, tensor: NDArray[np.floating]) -> StructureRow:
    kept = tensor != 0
    matrix = tensor.ndim == 2
    convolution = tensor.ndim > 2
    kernel = tuple(range(2, tensor.ndim))
    values = tensor.astype(np.float64)
    return StructureRow(
        name=name,
        shape=tensor.shape,
        dense=tensor.size,
        nonzeros=int(np.count_nonzero(kept)),
        columns=_zeros(kept.any(axis=1)) if matrix else 0.0,
        rows=_zeros(kept.any(axis=0)) if matrix else 0.0,
        channels=_zeros(kept.any(axis=(0, *kernel))) if convolution else 0.0,
        kernels=_zeros(kept.any(axis=kernel)) if convolution else 0.0,
        filters=_zeros(kept.any(axis=(1, *kernel))) if convolution else 0.0,
        fine=_zeros(kept),
        std=float(values.std(ddof=1)) if tensor.size > 1 else 0.0,
        mean=float(values.mean()) if tensor.size else 0.0,
        abs_mean=float(np.abs(values).mean()) if tensor.size else 0.0,
    )


def _zeros(kept: NDArray[np.bool_]) -> float:
    return 100.0 * float(np.count_nonzero(~kept)) / kept.size if kept.size else 0.0
