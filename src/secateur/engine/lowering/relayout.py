"""Values in other layouts: conversions, phases of strided convolutions, im2col.

All of them copy planes (kernels.copy_planes): a table of planes and a few shifted taps of each.

    phase (py, px) of channel c, at plane (c sh + py) sw + px:   [y, x] = source[c, y sh + py - top, x sw + px - left]
    im2col row of position (ky, kx), at plane (c kh + ky) kw + kx:   [y, x] = source[c, y sh + ky dh - top, ...]

and zero where that lies outside the source.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from secateur.engine.kernels.convert import Convert
from secateur.engine.kernels.copy_planes import CopyPlanes
from secateur.engine.kernels.pick_pixels import PickPixels
from secateur.engine.layout import ALIGN, Flat, Picked, Planes, Quads, Tiled
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.parts import UNITS_PER_THREAD, parts_of, parts_of_rows

Ints = NDArray[np.int64]


def to_planes(context: Context, tensor: Tensor, layout: Planes | None = None, target: Tensor | None = None) -> Tensor:
    """The tensor in planes; itself where it has the wanted pitch and stride already.

    layout    the layout that its shape has everywhere in the program when not given
    target    where to write it: always a copy
    """
    if target is None:
        wanted = layout or context.layout(tensor.shape)
        assert isinstance(wanted, Planes)
        if isinstance(tensor.layout, Planes) and _geometry(tensor.layout) == _geometry(wanted):
            return tensor
        target = context.temporary(wanted)
    _copy(context, tensor, target)
    return target


def to_flat(context: Context, tensor: Tensor, target: Tensor | None = None) -> Tensor:
    """The tensor as a dense array; itself, or a view of it, where its elements lie so already.

    target    where to write it: always a copy
    """
    if target is None:
        flat = Flat(tensor.shape)
        if isinstance(tensor.layout, Flat):
            return tensor
        if isinstance(tensor.layout, Planes) and _is_dense(tensor.layout):
            return Tensor(flat, tensor.buffer, tensor.offset)
        target = context.temporary(flat)
    _copy(context, tensor, target)
    return target


def phase_split(
    context: Context, tensor: Tensor, strides: Sequence[int], pads: Sequence[int], layout: Planes
) -> Tensor:
    """The s x s phases of every plane, zeros around the source included (see the head of this file).

    layout    (n, c sh sw, rows, columns) of the result
    """
    sh, sw = strides
    taps = [(py - pads[0], px - pads[1]) for py in range(sh) for px in range(sw)]
    return shifted(context, tensor, taps, (sh, sw), layout)


def im2col(
    context: Context,
    tensor: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    layout: Planes,
) -> Tensor:
    """One plane per position (c, ky, kx): the source elements that it meets at each output pixel.

    layout    (n, c kh kw, output height, output width) of the result
    """
    rows = [ky * dilations[0] - pads[0] for ky in range(kernel[0])]
    columns = [kx * dilations[1] - pads[1] for kx in range(kernel[1])]
    taps = [(row, column) for row in rows for column in columns]
    return shifted(context, tensor, taps, (strides[0], strides[1]), layout)


def shifted(
    context: Context,
    tensor: Tensor,
    taps: Sequence[tuple[int, int]],
    strides: tuple[int, int],
    layout: Planes,
    target: Tensor | None = None,
    fill: float | None = None,
) -> Tensor:
    """Plane c len(taps) + t of the result at (y, x) = source plane c at (y sh + taps[t][0], x sw + taps[t][1]).

    fill    elements outside the source; what the layout calls zero when not given
    """
    target = target or context.temporary(layout)
    fill = element_of(layout.fill) if fill is None else fill
    sources, source_row = plane_offsets(tensor)
    targets, _ = plane_offsets(target)
    per_plane = targets.reshape(-1, len(taps))
    table = np.array(
        [
            (dy * source_row + dx, step, *_valid(tensor, layout, dy, dx, strides))
            for (dy, dx), step in zip(taps, per_plane[0] - per_plane[0, 0], strict=True)
        ],
        np.int64,
    )
    copy_planes(context, tensor, target, sources, per_plane[:, 0], taps=table, strides=strides, fill=fill)
    return target


def picked_pixels(context: Context, tensor: Tensor, strides: tuple[int, int], layout: Planes) -> Tensor:
    """Every sh-th pixel of every sw-th column of a tensor in tiles, in planes.

    layout    of the result
    """
    source = tensor.layout
    assert isinstance(source, Tiled)
    target = context.temporary(layout)
    sizes = np.array(source.lines) * ALIGN
    rows, columns = np.arange(layout.h) * strides[0], np.arange(layout.w) * strides[1]
    pixels = rows[:, None] * source.pitch + columns
    tile = np.searchsorted(np.cumsum(sizes), pixels, side="right")
    places = tile * source.tile_stride + pixels - (np.cumsum(sizes) - sizes)[tile]
    starts = np.arange(source.n)[:, None] * source.image_stride + np.arange(source.c) * source.channel_stride
    context.emit(
        context.layer,
        PickPixels(),
        {
            "x": tensor.address,
            "y": target.address,
            "sources": starts.reshape(-1),
            "targets": plane_offsets(target)[0],
            "pixels": places.astype(np.int32).reshape(-1),
            "h": layout.h,
            "w": layout.w,
            "target_row": layout.pitch,
        },
        source.n * source.c,
        reads=(tensor,),
        writes=(target,),
    )
    return target


def copy_planes(
    context: Context,
    source: Tensor,
    target: Tensor,
    sources: Ints,
    targets: Ints,
    *,
    taps: Ints | None = None,
    strides: tuple[int, int] = (1, 1),
    fill: float = 0.0,
) -> None:
    """Copy planes at given offsets in elements, from the tensors' first elements.

    taps    rows of kernels.copy_planes.TAP_FIELDS; one plain copy when not given
    """
    _, source_row = plane_offsets(source)
    _, target_row = plane_offsets(target)
    h, w = target.shape[2:]
    if taps is None:
        taps = np.array([(0, 0, 0, h, 0, w)], np.int64)
        few = len(sources) < UNITS_PER_THREAD * context.threads
        alike = source_row == target_row and source.fill == target.fill
        if alike and not few:
            # Rows that lie the same way are one long row; zeros between them are copied too.
            h, w = 1, (h - 1) * source_row + w
            taps = np.array([(0, 0, 0, 1, 0, w)], np.int64)
    rows, parts = parts_of_rows(context, len(sources), h)
    kernel = CopyPlanes(strides[1] if strides[1] in (1, 2) else 0)
    context.emit(
        context.layer,
        kernel,
        {
            "x": source.address,
            "y": target.address,
            "sources": sources,
            "targets": targets,
            "taps": taps,
            "tap_count": len(taps),
            "parts": parts,
            "rows": rows,
            "h": h,
            "w": w,
            "source_row": source_row * strides[0],
            "target_row": target_row,
            "step": strides[1],
            "fill": fill,
        },
        len(sources) * parts,
        reads=(source,),
        writes=(target,),
    )


def element_of(fill: int) -> float:
    """Four equal bytes as a float32, which is how copies are told an element of any kind."""
    return float(np.full(4, fill, np.uint8).view(np.float32)[0])


def plane_offsets(tensor: Tensor) -> tuple[Ints, int]:
    """Where the planes of a rank-4 tensor begin, (n c,), and the distance of its rows."""
    n, c, h, w = tensor.shape
    layout = tensor.layout
    assert not isinstance(layout, Tiled | Quads), "a tensor in tiles or quads has no planes of its own"
    if isinstance(layout, Picked):
        offsets, row = plane_offsets(Tensor(layout.whole, tensor.buffer, tensor.offset))
        return offsets.reshape(n, -1)[:, list(layout.channels)].reshape(-1), row
    if isinstance(layout, Planes):
        images, channels, row = layout.image_stride, layout.plane_stride, layout.pitch
    else:
        images, channels, row = c * h * w, h * w, w
    offsets = np.arange(n, dtype=np.int64)[:, None] * images + np.arange(c, dtype=np.int64) * channels
    return offsets.reshape(-1), row


def convert(context: Context, source: Tensor, target: Tensor, from_: str, to: str) -> None:
    """Copy a dense array, its elements converted from one type to another."""
    size = target.layout.size
    block, blocks = parts_of(context, 1, size)
    context.emit(
        context.layer,
        Convert(from_, to),
        {"x": source.address, "y": target.address, "size": size, "block": block},
        blocks,
        reads=(source,),
        writes=(target,),
    )


def _copy(context: Context, source: Tensor, target: Tensor) -> None:
    copy_planes(context, source, target, plane_offsets(source)[0], plane_offsets(target)[0])


def _geometry(layout: Planes) -> tuple[int, ...]:
    return (layout.h, layout.w, layout.pitch, layout.plane_stride, layout.fill)


def _is_dense(layout: Planes) -> bool:
    size = layout.h * layout.w
    one_plane = layout.c == 1 or layout.plane_stride == size
    one_image = layout.n == 1 or layout.image_stride == layout.c * size
    return layout.pad == 0 and one_plane and one_image


def _valid(tensor: Tensor, layout: Planes, dy: int, dx: int, strides: tuple[int, int]) -> tuple[int, int, int, int]:
    """First and one behind the last row, then column, of the target that lies inside the source."""
    limits: list[int] = []
    for shift, step, size, length in zip((dy, dx), strides, tensor.shape[2:], (layout.h, layout.w), strict=True):
        first = min(max(0, -(shift // step)), length)
        last = min(max(first, (size - 1 - shift) // step + 1), length)
        limits += [first, last]
    return limits[0], limits[1], limits[2], limits[3]
