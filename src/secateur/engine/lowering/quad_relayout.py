"""8-bit integers in other places: dense bytes to quads and back, channels in any order.

Dense arrays of bytes end with a whole quad, so that operators on single numbers may take them as rows of quads too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secateur.engine.kernels.quad_bytes import PackBytes, UnpackBytes
from secateur.engine.kernels.quad_channels import QuadChannels
from secateur.engine.kernels.quad_rows import MISSING
from secateur.engine.layout import Flat, Quads, fill_word, quads_of
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.moves import View, move
from secateur.engine.lowering.parts import parts_of_rows
from secateur.engine.lowering.quad_tables import by_quads
from secateur.engine.lowering.relayout import copy_planes, plane_offsets
from secateur.engine.lowering.walk import strides_of
from secateur.engine.program import Argument

Ints = NDArray[np.int64]


def as_rows(tensor: Tensor) -> Tensor:
    """A dense array of bytes as one row of quads, in the same place."""
    assert isinstance(tensor.layout, Flat)
    return Tensor(Flat((quads_of(tensor.layout.size),)), tensor.buffer, tensor.offset)


def per_channel(context: Context, tensor: Tensor) -> Tensor:
    """Bytes (n, c, 1, 1) as quads (n, quads, 1, 1): a view where each image begins with a quad."""
    n, c = tensor.shape[:2]
    flat = Flat((n, quads_of(c), 1, 1))
    if n == 1 or c % 4 == 0:
        return Tensor(flat, tensor.buffer, tensor.offset)
    made = context.temporary(flat)
    move(context, View(tensor, (c, 1)), View(made, (4 * quads_of(c), 1)), (n, c), 1)
    return made


def to_quads(
    context: Context,
    tensor: Tensor,
    layout: Quads,
    target: Tensor | None = None,
    *,
    steps: Sequence[int] | None = None,
    flip: bool = False,
) -> Tensor:
    """Bytes as quads.

    layout    of the result
    target    where to write it; new memory when not given
    steps     bytes from one image, channel, row, column to the next; those of a dense array when not given
    flip      bytes are numbers of int8 as the caller has them
    """
    target = target or context.temporary(layout)
    image, channel, row, column = steps or strides_of(Tensor(Flat(layout.shape)))
    n, c, h, w = layout.shape
    sources = np.arange(n)[:, None] * image + np.arange(c) * channel
    targets, target_row = plane_offsets(target.words)
    arguments: dict[str, Argument] = {
        "x": tensor.address,
        "y": target.address,
        "sources": by_quads(sources.reshape(-1), n),
        "targets": targets,
    }
    _convert(context, PackBytes(column != 1), arguments, tensor, target, (h, w), (row, target_row), column, flip)
    return target


def to_bytes(
    context: Context,
    tensor: Tensor,
    target: Tensor | None = None,
    *,
    steps: Sequence[int] | None = None,
    flip: bool = False,
) -> Tensor:
    """Quads as bytes; a dense array, itself, when it is one.

    Arguments as for `to_quads`; steps are those of the target.
    """
    if isinstance(tensor.layout, Flat) and target is None:
        return tensor
    layout = tensor.layout
    assert isinstance(layout, Quads)
    target = target or context.temporary(Flat(layout.shape), item=1)
    image, channel, row, column = steps or strides_of(Tensor(Flat(layout.shape)))
    n, c, h, w = layout.shape
    targets = np.arange(n)[:, None] * image + np.arange(c) * channel
    sources, source_row = plane_offsets(tensor.words)
    arguments: dict[str, Argument] = {
        "x": tensor.address,
        "y": target.address,
        "sources": sources,
        "targets": by_quads(targets.reshape(-1), n, MISSING),
    }
    _convert(context, UnpackBytes(column != 1), arguments, tensor, target, (h, w), (source_row, row), column, flip)
    return target


def _convert(
    context: Context,
    kernel: PackBytes | UnpackBytes,
    arguments: dict[str, Argument],
    x: Tensor,
    y: Tensor,
    sizes: tuple[int, int],
    rows: tuple[int, int],
    column: int,
    flip: bool,
) -> None:
    h, w = sizes
    if rows[0] == rows[1] == w * column:
        h, w = 1, h * w
    planes = np.asarray(arguments["targets" if isinstance(kernel, PackBytes) else "sources"]).size
    count, parts = parts_of_rows(context, planes, h)
    arguments |= {"parts": parts, "rows": count, "h": h, "w": w, "source_row": rows[0], "target_row": rows[1]}
    arguments |= {"step": column, "flip": fill_word(0x80) if flip else 0}
    context.emit(context.layer, kernel, arguments, planes * parts, reads=(x,), writes=(y,))


@dataclass(frozen=True)
class Part:
    """Channels of a tensor of quads, in the order in which they come."""

    tensor: Tensor
    channels: Ints


def gather_channels(context: Context, parts: Sequence[Part], target: Tensor) -> None:
    """The channels of the parts, one part behind the other, as those of the target; not those that lie there."""
    begin = 0
    for part in parts:
        put_channels(context, part, target, begin)
        begin += len(part.channels)


def put_channels(context: Context, part: Part, target: Tensor, begin: int) -> None:
    """The channels of a part as those of the target from `begin` on; nothing where they lie there."""
    end = begin + len(part.channels)
    whole = begin % 4 == 0 and (end % 4 == 0 or end == target.shape[1])
    if begin % 4 == 0 and _lies_at(part, target, begin // 4):
        return
    if whole and _aligned(part):
        _copy_quads(context, part, target, begin // 4)
    else:
        _copy_channels(context, part, target, begin)


def channels_of(tensor: Tensor) -> Part:
    """All channels of a tensor."""
    return Part(tensor, np.arange(tensor.shape[1]))


def _lies_at(part: Part, target: Tensor, first: int) -> bool:
    """Whether a part is the target's own quads from one on."""
    own, words = part.tensor.words.planes, target.words.planes
    place = target.offset + first * words.plane_stride
    same = (
        part.tensor.buffer == target.buffer
        and part.tensor.offset == place
        and len(part.channels) == part.tensor.shape[1]
    )
    return (
        same
        and own.image_stride == words.image_stride
        and bool((part.channels == np.arange(part.tensor.shape[1])).all())
    )


def _aligned(part: Part) -> bool:
    """Whether the channels are whole quads; the last one may lack what the tensor's last quad lacks too."""
    channels, c = part.channels, part.tensor.shape[1]
    if len(channels) % 4 and channels[-1] != c - 1:
        return False
    starts = channels[::4]
    return bool(
        (starts % 4 == 0).all()
        and (np.repeat(starts, 4)[: len(channels)] + np.arange(len(channels)) % 4 == channels).all()
    )


def _copy_quads(context: Context, part: Part, target: Tensor, first: int) -> None:
    n = target.shape[0]
    words = part.tensor.words
    sources = plane_offsets(words)[0].reshape(n, -1)[:, part.channels[::4] // 4]
    targets = plane_offsets(target.words)[0].reshape(n, -1)[:, first : first + sources.shape[1]]
    copy_planes(context, words, target.words, sources.reshape(-1), targets.reshape(-1))


def _copy_channels(context: Context, part: Part, target: Tensor, begin: int) -> None:
    """The step that writes channels from `begin` on."""
    n, c = target.shape[:2]
    end = begin + len(part.channels)
    first, behind = begin // 4, quads_of(end)
    slots = np.arange(4 * first, 4 * behind)
    chosen = part.channels[np.clip(slots - begin, 0, len(part.channels) - 1)]
    others = ((slots < begin) | (slots >= end)) & (slots < c)
    keep = np.where(others, 0xFF, 0).astype(np.uint8).view(np.int32).reshape(-1, 1)
    bits = np.concatenate([(8 * (chosen % 4)).astype(np.int32).reshape(-1, 4), keep], 1)
    words = part.tensor.words
    (sources, source_row), (targets, target_row) = plane_offsets(words), plane_offsets(target.words)
    from_ = sources.reshape(n, -1)[:, chosen // 4].reshape(-1, 4)
    to = targets.reshape(n, -1)[:, first:behind].reshape(-1)
    h, w = target.shape[2:]
    if source_row == target_row and words.planes.fill == target.words.planes.fill:
        # Rows that lie the same way are one long row.
        h, w = 1, (h - 1) * source_row + w
    rows, parts = parts_of_rows(context, len(to), h)
    arguments: dict[str, Argument] = {
        "x": words.address,
        "y": target.address,
        "sources": from_,
        "targets": to,
        "bits": np.tile(bits, (n, 1)),
        "parts": parts,
        "rows": rows,
        "h": h,
        "w": w,
        "source_row": source_row,
        "target_row": target_row,
    }
    kept = bool(others.any())
    reads = (words, target) if kept and begin else (words,)
    context.emit(context.layer, QuadChannels(kept), arguments, len(to) * parts, reads=reads, writes=(target,))
