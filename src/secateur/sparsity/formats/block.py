"""1xN blocks: N consecutive output channels share one column index (block compressed rows).

    kernel span    a block is N filters x one input channel x the whole kernel (1xN paper); K = kernel area
    position span  a block is N filters x one input position; K = 1
    bytes = sum over blocks of (filters * K * v + b_index) + (ceil(C_out / N) + 1) * 4

The filters beyond a multiple of N form one shorter row of blocks. A block is stored when any of its values is
nonzero, so the format is exact for every tensor and small where the zeros really come in blocks. N and span
are not asked for: the smallest form over N in 2..32 and both spans is taken.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from secateur.errors import ArtifactError
from secateur.sparsity.formats.base import (
    VALUES,
    Bits,
    Form,
    Parts,
    check_columns,
    index_type,
    part,
    row_lengths,
    storage_formats,
)

BLOCK_SIZES = range(2, 33)
SPANS = ("kernel", "position")


def block_bytes(
    filters: int,
    blocks: int,
    size: int,
    kernel: int,
    value_bytes: int,
    index_bytes: int,
    short_blocks: int = 0,
) -> int:
    """Stored size in bytes (ALGORITHMS B10).

    blocks        stored blocks of `size` filters;  kernel: positions of a block, 1 for the position span
    short_blocks  stored blocks of the last filters % size filters
    """
    stored = blocks * (size * kernel * value_bytes + index_bytes)
    stored += short_blocks * (filters % size * kernel * value_bytes + index_bytes)
    return stored + (-(-filters // size) + 1) * 4


@storage_formats.register("block")
class _Block:
    def best(self, bits: Bits) -> Form | None:
        if bits.ndim < 2 or bits.size == 0:
            return None
        forms: list[Form] = []
        for span in SPANS if prod(bits.shape[2:]) > 1 else SPANS[1:]:
            cells = _cells(bits, span)
            nonzero = np.any(cells != 0, axis=2)
            forms.extend(_form(nonzero, size, span, cells.shape[2], bits.itemsize) for size in BLOCK_SIZES)
        return min(forms, key=lambda form: form.bytes)

    def pack(self, bits: Bits, form: Form) -> Parts:
        size = int(form.details["n"])
        cells = _cells(bits, str(form.details["span"]))
        kept = _kept_blocks(np.any(cells != 0, axis=2), size)
        row, column = np.nonzero(kept)
        return {
            "rows": np.concatenate([[0], np.cumsum(np.count_nonzero(kept, axis=1))]).astype(np.uint32),
            "columns": column.astype(index_type(kept.shape[1])),
            # One block after the other; a block's filters, then the positions of its kernel.
            VALUES: cells[
                _filters_of(row, size, len(cells)), np.repeat(column, _heights(row, size, len(cells)))
            ].ravel(),
        }

    def unpack(self, parts: Parts, form: Form, shape: tuple[int, ...]) -> Bits:
        size, span = form.details.get("n"), form.details.get("span")
        if not isinstance(size, int) or size not in BLOCK_SIZES or span not in SPANS:
            raise ArtifactError(f"blocks of n={size!r} and span={span!r} do not exist")
        if len(shape) < 2:
            raise ArtifactError(f"blocks of filters need two dimensions, it has {len(shape)}")
        filters, columns, kernel = _cell_shape(shape, str(span))
        block_rows = -(-filters // size)
        pointers, values = part(parts, "rows", np.uint32), part(parts, VALUES)
        column = part(parts, "columns", index_type(columns))
        row = np.repeat(np.arange(block_rows), row_lengths(pointers, block_rows, len(column)))
        check_columns(column, row, columns)
        heights = _heights(row, size, filters)
        if int(heights.sum()) * kernel != len(values):
            raise ArtifactError(
                f"its {len(column)} blocks need {int(heights.sum()) * kernel} values, not {len(values)}"
            )
        cells = np.zeros((filters, columns, kernel), dtype=values.dtype)
        cells[_filters_of(row, size, filters), np.repeat(column, heights)] = values.reshape(-1, kernel)
        return cells.reshape(shape)


def _cell_shape(shape: tuple[int, ...], span: str) -> tuple[int, int, int]:
    """(filters, columns, kernel): a block covers `kernel` values of a column in each of its filters."""
    kernel = prod(shape[2:])
    return (shape[0], shape[1], kernel) if span == "kernel" else (shape[0], shape[1] * kernel, 1)


def _cells(bits: Bits, span: str) -> Bits:
    return bits.reshape(_cell_shape(bits.shape, span))


def _kept_blocks(nonzero: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """(block rows, columns): does the block hold a nonzero."""
    return np.logical_or.reduceat(nonzero, np.arange(0, len(nonzero), size), axis=0)


def _form(nonzero: NDArray[np.bool_], size: int, span: str, kernel: int, value_bytes: int) -> Form:
    kept = _kept_blocks(nonzero, size)
    short = int(np.count_nonzero(kept[-1])) if len(nonzero) % size else 0
    index_bytes = np.dtype(index_type(nonzero.shape[1])).itemsize
    whole = int(np.count_nonzero(kept)) - short
    stored = block_bytes(len(nonzero), whole, size, kernel, value_bytes, index_bytes, short)
    return Form("block", stored, {"n": size, "span": span})


def _heights(row: NDArray[np.intp], size: int, filters: int) -> NDArray[np.intp]:
    """Number of filters of each stored block."""
    return np.minimum(size, filters - row * size)


def _filters_of(row: NDArray[np.intp], size: int, filters: int) -> NDArray[np.intp]:
    """The filter of every line of every stored block, blocks in order."""
    heights = _heights(row, size, filters)
    first_line = np.repeat(np.cumsum(heights) - heights, heights)
    return np.repeat(row * size, heights) + np.arange(int(heights.sum())) - first_line
