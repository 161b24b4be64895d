"""Convolution: one source in memory, one kernel over tiles and panels, any primitive and format.

source (lowering.source)  ->  streams of weights (engine.weights)  ->  tiles and units (lowering.tiles)  ->  steps
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from secateur.engine.choice import Choice
from secateur.engine.cost import prefetches
from secateur.engine.kernels.conv import ConvKernel
from secateur.engine.layout import Flat, Planes, Tiled, fill_word, planes, quads_of
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.conv_weights import walk_of
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.lowering.masks import mask_table
from secateur.engine.lowering.relayout import to_flat, to_planes
from secateur.engine.lowering.source import Source, like, source_of
from secateur.engine.lowering.tiles import plan_tiles, plan_units
from secateur.engine.program import Argument
from secateur.engine.weights.streams import Streams, Weights

Ints = NDArray[np.int64]


def emit_conv(
    context: Context,
    layer: str,
    shape: ConvShape,
    weight: Weights,
    bias: NDArray[np.float32] | NDArray[np.int32] | None,
    x: Tensor,
    y: Tensor,
    choice: Choice,
    epilogue: Epilogue,
) -> tuple[Streams, str]:
    """Steps of one convolution; returns its weight streams and the kernel's name for the report.

    shape    its inputs are counted in elements of 4 bytes, floats, pairs or quads
    weight   (O, C / groups, kh, kw), float32, or pairs or quads as uint32
    """
    inner = _sums_layout(context, shape, y, choice, epilogue)
    out = y if isinstance(y.layout, Tiled) or _same_geometry(y, inner) else context.temporary(inner)
    other = epilogue.residual
    if other and not isinstance(other.layout, Tiled):
        other = to_planes(context, other, like(inner, other.shape[1], other.fill))
    source = source_of(context, shape, x, inner, choice)
    walk = walk_of(context, shape, weight, source, choice, sort=epilogue.requantized is None)
    streams, block = walk.streams, walk.block
    packed, lanes = choice.primitive == "pack", context.target.lanes

    tiles = plan_tiles(
        *(inner, choice.vectors, lanes),
        source=source.tensor.maps,
        target=out.maps,
        residual=other.maps if other else None,
        shift=source.shift,
        unit=walk.item,
        whole=walk.of_bytes > 0,
    )
    positions = len(source.places)
    per_group = np.arange(shape.groups)
    bounds = np.arange(shape.groups + 1) * walk.panels_per_group
    packs = np.stack([per_group * positions, (per_group + 1) * positions], 1) if packed else None
    panels = shape.groups * walk.panels_per_group
    kernel = ConvKernel(
        walk.rows,
        tiles.vectors,
        walk.patterns,
        epilogue.activation,
        residual=other is not None,
        shared_deltas=walk.shared,
        packed=packed,
        partial=block is not None,
        masked=_needs_masks(inner, lanes),
        prefetch=prefetches(choice, shape, context.target),
        requantize=epilogue.requantized.how if epilogue.requantized else None,
        pairs=shape.pairs,
        of_bytes=walk.of_bytes,
    )
    blocks = -(-positions // block) if block else 1
    arguments: dict[str, Argument] = {
        "x": walk.read.address,
        "y": out.address,
        "residual": other.address if other else 0,
        "bias": _per_row(bias, streams.rows),
        "tiles": tiles.table,
        "deltas": streams.deltas,
        "weights": streams.weights,
        "rows": _places(streams.rows, out, quads=epilogue.to_quads),
        "masks": mask_table(inner, lanes),
        "unit": walk.unit,
        "pack_offsets": _pack_offsets(source, shape.groups) if packed else 0,
        "slope": 0 if epilogue.slope is None else _per_row(epilogue.slope, streams.rows),
        "pack_most": block or positions,
    }
    if epilogue.requantized:
        arguments |= {
            "scales": _per_row(epilogue.requantized.scales, streams.rows),
            "residual_rows": _places(streams.rows, other, quads=True) if other else 0,
            "numbers": epilogue.requantized.numbers,
            "zero": epilogue.requantized.zero * 0x10001,
            "fill": fill_word(inner.fill),
        }
    reads = (walk.read, *((other,) if other else ()))
    # A few rows of all tiles at a time write along planes; the rows of a tile lie side by side in tiles anyway.
    resident = None if isinstance(out.layout, Tiled) else choice.resident
    # Each block of positions is a step of its own: all tiles use its inputs while they are near.
    for index in range(blocks):
        part = slice(index * panels, (index + 1) * panels)
        units, costs = plan_units(
            *(tiles, streams.costs[part], context.threads),
            bounds=bounds,
            packs=packs,
            chunks=-(-streams.nbytes // blocks // resident) if resident else 1,
        )
        own: dict[str, Argument] = {
            "units": units,
            "panels": streams.panels[part],
            "first": int(index == 0),
            "last": int(index == blocks - 1),
            "pack_shift": index * (block or 0),
        }
        context.emit(
            *(layer, kernel, arguments | own, len(units)),
            reads=reads if index == 0 else (*reads, out),
            writes=(out,),
            costs=costs,
            scratch=(block or positions) * walk.unit if packed else 0,
        )
    if out is not y:
        _deliver(context, out, y)
    return streams, kernel.name


def _sums_layout(context: Context, shape: ConvShape, y: Tensor, choice: Choice, epilogue: Epilogue) -> Planes:
    """The pitch in which outputs are computed: the output's own where the source can have it."""
    channels = quads_of(shape.o) if epilogue.to_quads else shape.o
    wanted = (shape.n, channels, shape.out_h, shape.out_w)
    if isinstance(y.layout, Tiled):
        usual = context.layout(wanted)
        assert isinstance(usual, Planes)
        return replace(usual, fill=y.layout.fill)
    fill = epilogue.requantized.zero if epilogue.requantized else 0
    layout = y.layout if isinstance(y.layout, Planes) else planes(wanted, fill=fill)
    if choice.primitive == "gemm" or layout.pad >= shape.out_border:
        return layout
    return planes(wanted, shape.out_border, fill=layout.fill)


def _places(rows: Ints, tensor: Tensor, *, quads: bool) -> Ints:
    """Bytes from a tensor's first plane to that of each row of the panels, which may be a quarter of one."""
    planes_of = rows // 4 if quads else rows
    return np.where(rows >= 0, planes_of * tensor.maps.channel_stride * 4, -1)


def _same_geometry(tensor: Tensor, layout: Planes) -> bool:
    """Whether a tensor (perhaps a part of a larger one) has the rows and planes of a layout."""
    own = tensor.layout
    return isinstance(own, Planes) and (own.shape, own.pitch, own.plane_stride) == (
        layout.shape,
        layout.pitch,
        layout.plane_stride,
    )


def _deliver(context: Context, out: Tensor, y: Tensor) -> None:
    if isinstance(y.layout, Flat):
        to_flat(context, out, y)
    else:
        to_planes(context, out, y.planes, y)


def _per_row(values: NDArray[np.float32] | NDArray[np.int32] | None, rows: Ints) -> NDArray[np.float32 | np.int32]:
    if values is None:
        return np.zeros(len(rows), np.float32)  # as integers the same
    return np.where(rows >= 0, values[np.maximum(rows, 0)], 0).astype(values.dtype)


def _pack_offsets(source: Source, groups: int) -> NDArray[np.int32]:
    """Bytes from the tile's first input to each position of each group."""
    starts = np.arange(groups)[:, None] * source.group
    offsets = (starts + source.places[None, :]) * source.unit
    if offsets.size and offsets.max() > np.iinfo(np.int32).max:
        raise AssertionError("a source of more than 2 GiB cannot be packed")
    return offsets.astype(np.int32).reshape(-1)


def _needs_masks(layout: Planes, lanes: int) -> bool:
    return layout.pad > 0 or (layout.h * layout.w) % lanes != 0
