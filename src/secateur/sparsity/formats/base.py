"""What a storage format of sparse tensors is.

A format sees a tensor as unsigned integers of its element size, so that it is the same code for every dtype
and keeps every bit: zero means that all bits are zero; -0.0 and the payload of a NaN are values like any
other.
"""

from dataclasses import dataclass, field
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from secateur.errors import ArtifactError
from secateur.registry import Registry

Bits = NDArray[np.unsignedinteger]
Parts = dict[str, np.ndarray]

# Every format has one part with this name, which keeps the dtype of the tensor; the others are integers.
VALUES = "values"


@dataclass(frozen=True)
class Form:
    """A format applied to one tensor: its size, and what a reader must know beside the parts."""

    format: str
    bytes: int
    details: dict[str, int | str] = field(default_factory=dict[str, int | str])


class StorageFormat(Protocol):
    def best(self, bits: Bits) -> Form | None:
        """The smallest form of `bits` in this format, or None where the format does not apply."""
        ...

    def pack(self, bits: Bits, form: Form) -> Parts:
        """The named arrays to be stored; their sizes add up to `form.bytes`."""
        ...

    def unpack(self, parts: Parts, form: Form, shape: tuple[int, ...]) -> Bits:
        """The tensor again. raises ArtifactError when the parts contradict each other or `shape`."""
        ...


storage_formats: Registry[type[StorageFormat]] = Registry("storage format")


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """A weight as a matrix: output channels by everything else."""
    return shape[0], prod(shape[1:])


def index_type(columns: int) -> type[np.unsignedinteger]:
    """The narrowest of the two index types that can name `columns` columns."""
    return np.uint16 if columns <= 2**16 else np.uint32


def part(parts: Parts, name: str, dtype: type[np.unsignedinteger] | None = None) -> np.ndarray:
    """One flat array of `parts`. raises ArtifactError when it is missing, not flat, or of another type."""
    if name not in parts:
        raise ArtifactError(f"its part '{name}' is missing")
    array = parts[name]
    if array.ndim != 1:
        raise ArtifactError(f"its part '{name}' has {array.ndim} dimensions instead of one")
    if dtype is not None and array.dtype != dtype:
        raise ArtifactError(f"its part '{name}' holds {array.dtype} instead of {np.dtype(dtype)}")
    return array


def row_lengths(pointers: np.ndarray, rows: int, entries: int) -> np.ndarray:
    """Entries of each row.

    raises    ArtifactError  unless the pointers climb from 0 to `entries` in `rows` steps
    """
    if len(pointers) != rows + 1:
        raise ArtifactError(f"it has {len(pointers)} row pointers for {rows} rows")
    lengths = np.diff(pointers.astype(np.int64))
    if pointers[0] != 0 or pointers[-1] != entries or np.any(lengths < 0):
        raise ArtifactError(f"its row pointers do not climb from 0 to its {entries} entries")
    return lengths


def check_columns(columns: np.ndarray, row_of_entry: np.ndarray, width: int) -> None:
    """raises ArtifactError unless columns are below `width` and climb strictly inside every row."""
    wide = columns.astype(np.int64)
    if wide.size and int(wide.max()) >= width:
        raise ArtifactError(f"it names column {int(wide.max())}, and it has {width}")
    same_row = row_of_entry[1:] == row_of_entry[:-1]
    if np.any(same_row & (wide[1:] <= wide[:-1])):
        raise ArtifactError("its columns do not climb inside a row")
