"""Walking over several tensors together, as rows.

Each tensor is a strided view of one shape. Neighbouring axes that all of them walk through in the same way are one
axis; the last axis becomes the rows of a kernel, the others are enumerated in tables of the rows' first elements.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from secateur.engine.layout import Picked, Planes
from secateur.engine.lowering.context import Tensor

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Walk:
    """Rows.

    starts   (tensors, rows) elements before the first one of each row
    kinds    per tensor "full", an element for each of `length`, or "row", one number for all
    masked   the rows are planes, which are computed as whole vectors
    """

    starts: Ints
    kinds: tuple[str, ...]
    length: int
    masked: bool = False


def strides_of(tensor: Tensor) -> list[int]:
    """Elements from one position of each axis to the next."""
    layout, shape = tensor.layout, tensor.shape
    if isinstance(layout, Picked):
        raise AssertionError("picked channels have no common distance")
    if isinstance(layout, Planes):
        return [layout.image_stride, layout.plane_stride, layout.pitch, 1]
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def strides_in(tensor: Tensor, shape: tuple[int, ...]) -> list[int]:
    """The tensor's strides as an operand of a result of this shape: 0 along axes on which it is broadcast."""
    steps = strides_of(tensor)
    if tensor.shape == shape:
        return steps
    aligned = [step if size > 1 else 0 for step, size in zip(steps, tensor.shape, strict=True)]
    return [0] * (len(shape) - len(steps)) + aligned


def joined(sizes: Sequence[int], steps: Ints) -> tuple[list[int], Ints]:
    """The same walk with fewer axes.

    steps     (tensors, axes)
    returns   sizes and steps without axes of one element, and with neighbours joined where every tensor's allow it
    """
    kept_sizes: list[int] = []
    kept: list[Ints] = []
    for axis in range(len(sizes) - 1, -1, -1):
        if sizes[axis] == 1:
            continue
        if kept and (steps[:, axis] == kept[-1] * kept_sizes[-1]).all():
            kept_sizes[-1] *= sizes[axis]
        else:
            kept_sizes.append(sizes[axis])
            kept.append(steps[:, axis])
    columns = np.stack(kept[::-1], 1) if kept else np.zeros((len(steps), 0), np.int64)
    return kept_sizes[::-1], columns


def rows_of(sizes: Sequence[int], steps: Ints) -> Walk:
    """Rows that are as long as possible; every tensor's elements of a row are neighbours, or one."""
    sizes, steps = joined(sizes, steps)
    if not sizes or steps[:, -1].max() > 1 or steps[:, -1].min() < 0:
        sizes, steps = [*sizes, 1], np.concatenate([steps, np.ones((len(steps), 1), np.int64)], 1)
    kinds = tuple("full" if step else "row" for step in steps[:, -1])
    return Walk(starts_of(sizes[:-1], steps[:, :-1]), kinds, sizes[-1])


def starts_of(sizes: Sequence[int], steps: Ints) -> Ints:
    """(tensors, positions) the offset of every position of the axes, the last one fastest."""
    offsets = np.zeros((len(steps), 1), np.int64)
    for axis, size in enumerate(sizes):
        moves = steps[:, axis, None] * np.arange(size)
        offsets = (offsets[:, :, None] + moves[:, None, :]).reshape(len(steps), -1)
    return np.ascontiguousarray(offsets)
