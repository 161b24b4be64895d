"""Moving elements: a strided view of one tensor is copied onto a strided view of another.

The axes are joined where both allow it (lowering.walk). What remains decides the kernel: rows that are neighbours in
both tensors, blocks that are turned, or single elements. Elements of eight bytes are moved as two of four.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secateur.engine.kernels.elementwise import Elementwise
from secateur.engine.kernels.strided_copy import StridedCopy
from secateur.engine.kernels.transpose import Transpose
from secateur.engine.layout import Flat
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.parts import parts_of
from secateur.engine.lowering.walk import joined, rows_of, starts_of, strides_of
from secateur.engine.program import Argument

Ints = NDArray[np.int64]

WORD = 4


@dataclass(frozen=True)
class View:
    """Elements of a tensor: from element `offset`, one step per axis."""

    tensor: Tensor
    steps: tuple[int, ...]
    offset: int = 0


def view(tensor: Tensor) -> View:
    """All elements of a tensor."""
    return View(tensor, tuple(strides_of(tensor)))


def move(context: Context, source: View, target: View, sizes: Sequence[int], item: int = WORD) -> None:
    """Copy a view onto another one of the same sizes.

    item    bytes per element, 1, 4 or 8; steps of the target must not be negative
    """
    words = max(item // WORD, 1)
    steps = np.array([target.steps, source.steps], np.int64).reshape(2, -1)
    axes = list(sizes)
    if words > 1:
        axes.append(words)
        steps = np.concatenate([steps * words, np.ones((2, 1), np.int64)], 1)
    offsets = np.array([[target.offset * words], [source.offset * words]], np.int64)
    axes, steps = joined(axes, steps)
    if item < WORD:
        axes, steps = (axes, steps) if axes else ([1], np.ones((2, 1), np.int64))
        _one_by_one(context, source.tensor, target.tensor, offsets, axes, steps, item)
    elif not axes or (steps[0, -1] == 1 and steps[1, -1] in (0, 1)):
        walk = rows_of(axes, steps)
        step = 1 if walk.kinds[1] == "full" else 0
        move_rows(context, source.tensor, target.tensor, walk.starts + offsets, step, walk.length)
    else:
        _reordered(context, source.tensor, target.tensor, offsets, axes, steps)


def fill(context: Context, target: View, sizes: Sequence[int], value: float) -> None:
    """Write one number to all elements of a view."""
    steps = np.array([target.steps, [0] * len(sizes)], np.int64).reshape(2, -1)
    walk = rows_of(sizes, steps)
    number = Tensor(Flat((1,)), constant=np.full(1, value, np.float32))
    starts = np.stack([walk.starts[0] + target.offset, np.zeros_like(walk.starts[0])])
    move_rows(context, number, target.tensor, starts, 0, walk.length)


def move_rows(
    context: Context, source: Tensor, target: Tensor, starts: Ints, step: int, length: int, item: int = WORD
) -> None:
    """Copy rows of `length` elements of `item` bytes, 4 or 1.

    starts    (2, rows) first elements in the target, in the source
    step      elements of the source from one to the next; the target's are neighbours
    """
    rows = starts.shape[1]
    if step not in (0, 1) or item < WORD:
        arguments = {"x": source.address, "y": target.address, "sources": starts[1], "targets": starts[0]}
        arguments |= {"count": 1, "length": length, "source_step": 0, "target_step": 0, "element_step": step}
        context.emit(context.layer, StridedCopy(item), arguments, rows, reads=(source,), writes=(target,))
        return
    part, parts = parts_of(context, rows, length)
    context.emit(
        context.layer,
        Elementwise("Identity", ("full" if step else "row",)),
        {
            "y": target.address,
            "targets": starts[0],
            "masks": 0,
            "length": length,
            "parts": parts,
            "part": part,
            "x0": source.address,
            "offsets0": starts[1],
        },
        rows * parts,
        reads=(source,),
        writes=(target,),
    )


def _reordered(context: Context, source: Tensor, target: Tensor, offsets: Ints, sizes: list[int], steps: Ints) -> None:
    """Rows of the target whose elements are not neighbours in the source."""
    if steps[0, -1] != 1:
        sizes, steps = [*sizes, 1], np.concatenate([steps, np.ones((2, 1), np.int64)], 1)
    last = len(sizes) - 1
    # The second axis of a block: the one along which the source's elements are neighbours.
    across = next((axis for axis in range(last) if steps[1, axis] == 1), None)
    if across is not None and min(sizes[across], sizes[last]) * 2 >= context.target.lanes:
        _turned(context, source, target, offsets, sizes, steps, across)
    else:
        _one_by_one(context, source, target, offsets, sizes, steps, WORD)


def _one_by_one(
    context: Context, source: Tensor, target: Tensor, offsets: Ints, sizes: list[int], steps: Ints, item: int
) -> None:
    """Elements of `item` bytes in any order."""
    if steps[0, -1] != 1:
        sizes, steps = [*sizes, 1], np.concatenate([steps, np.ones((2, 1), np.int64)], 1)
    last = len(sizes) - 1
    outer = list(range(max(last - 1, 0)))
    starts = starts_of([sizes[axis] for axis in outer], steps[:, outer]) + offsets
    count, moves = (sizes[last - 1], steps[:, last - 1]) if last else (1, np.zeros(2, np.int64))
    arguments: dict[str, Argument] = {
        "x": source.address,
        "y": target.address,
        "sources": starts[1],
        "targets": starts[0],
        "count": count,
        "length": sizes[last],
        "element_step": int(steps[1, last]),
        "source_step": int(moves[1]),
        "target_step": int(moves[0]),
    }
    context.emit(context.layer, StridedCopy(item), arguments, starts.shape[1], reads=(source,), writes=(target,))


def _turned(
    context: Context, source: Tensor, target: Tensor, offsets: Ints, sizes: list[int], steps: Ints, across: int
) -> None:
    """Blocks over the last axis and the axis `across`, in strips of one vector along the latter."""
    last, lanes = len(sizes) - 1, context.target.lanes
    outer = [axis for axis in range(last) if axis != across]
    rows = starts_of([sizes[axis] for axis in outer], steps[:, outer]) + offsets
    first = np.arange(0, sizes[across], lanes)
    strips = first * steps[:, across, None]
    widths = np.minimum(lanes, sizes[across] - first)
    # A strip that is written far apart is finished before the next one begins: its lines stay in the cache.
    far = bool(outer) and steps[0, across] > steps[0, outer].min()
    if far:
        starts, widths = strips[:, :, None] + rows[:, None, :], np.repeat(widths, rows.shape[1])
    else:
        starts, widths = rows[:, :, None] + strips[:, None, :], np.tile(widths, rows.shape[1])
    starts = np.ascontiguousarray(starts.reshape(2, -1))
    arguments: dict[str, Argument] = {
        "x": source.address,
        "y": target.address,
        "sources": starts[1],
        "targets": starts[0],
        "widths": widths,
        "rows": sizes[last],
        "source_step": int(steps[1, last]),
        "target_step": int(steps[0, across]),
    }
    context.emit(context.layer, Transpose(), arguments, starts.shape[1], reads=(source,), writes=(target,))
