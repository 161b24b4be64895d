"""The weights of a convolution as streams, and what these streams walk along: the source, or planes of its bytes."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from secateur.engine.choice import Choice
from secateur.engine.lowering.byte_planes import byte_planes
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.source import Source
from secateur.engine.weights.by_bytes import ROWS, encode_bytes
from secateur.engine.weights.by_pattern import encode
from secateur.engine.weights.every_position import encode_dense
from secateur.engine.weights.lockstep import encode_lockstep
from secateur.engine.weights.streams import Streams, Weights, padded_order

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Walk:
    """Streams and where they lead.

    streams           of all panels
    read              what tiles begin in
    item              bytes of its elements
    unit              bytes that a position of a packed tile takes; else from one place to the next
    rows              output channels of a panel
    panels_per_group  of a grouped convolution
    patterns          of the kernel
    block             positions of a step; all when None
    shared            all panels use the positions of the first
    of_bytes          rows of a block that walks single channels, or 0
    """

    streams: Streams
    read: Tensor
    item: int
    unit: int
    rows: int
    panels_per_group: int
    patterns: tuple[int, ...]
    block: int | None
    shared: bool
    of_bytes: int


def walk_of(context: Context, shape: ConvShape, weight: Weights, source: Source, choice: Choice, *, sort: bool) -> Walk:
    """The walk of a choice; steps that take quads apart where it needs them.

    weight    (O, C / groups, kh, kw), float32, or pairs or quads as uint32
    sort      output channels may be put in another order
    """
    matrix = _in_order(weight.reshape(shape.o, -1), source.order)
    packed, by_bytes = choice.primitive == "pack", choice.format == "bytes"
    positions = matrix.shape[1]
    unit = choice.vectors * context.target.lanes * 4 if packed else source.unit
    rows = ROWS if by_bytes else choice.rows
    order, panels_per_group = _panel_order(shape, rows)
    starts = np.repeat(np.arange(shape.groups) * (0 if packed else source.group), panels_per_group)
    places = np.arange(positions, dtype=np.int64) if packed else source.places
    block = choice.block if choice.block and choice.block < positions else None
    patterns = _patterns(choice)
    shared = choice.format == "dense" and block is None
    read, item = source.tensor, 4
    if by_bytes:
        # A packed position has a vector of each channel, one behind the other.
        each, distance = unit, 4 * context.target.lanes
        if not packed:
            (read, distance), item, each = byte_planes(context, source), 1, unit // 4
        quads = cast(NDArray[np.uint32], matrix)
        streams = encode_bytes(quads, places * each, distance, choice.rows, order=order, starts=starts * each)
    elif shared:
        streams = encode_dense(matrix, places, rows, order=order, starts=starts)
    elif choice.format == "rows":
        streams = encode_lockstep(
            *(matrix, places, rows),
            groups=shape.groups,
            block=block,
            group_places=0 if packed else source.group,
            packed=packed,
            sort=sort,
        )
    else:
        streams = encode(
            *(matrix, places, rows, patterns),
            order=order,
            block=block,
            starts=starts,
            packed=packed,
            dense=choice.format == "dense",
        )
    of_bytes = choice.rows if by_bytes else 0
    return Walk(streams, read, item, unit, rows, panels_per_group, patterns, block, shared, of_bytes)


def _panel_order(shape: ConvShape, rows: int) -> tuple[Ints, int]:
    """Output channels in panels of `rows`, no panel with channels of two groups."""
    per_group = shape.o // shape.groups
    one = padded_order(np.arange(per_group, dtype=np.int64), rows)
    order = np.concatenate([np.where(one >= 0, one + g * per_group, -1) for g in range(shape.groups)])
    return order, len(one) // rows


def _patterns(choice: Choice) -> tuple[int, ...]:
    full = 2**choice.rows - 1
    if choice.format in ("rows", "bytes"):
        return ()
    if choice.format != "panel":
        return (full,)
    most = choice.most or choice.rows
    return tuple(code for code in range(1, full + 1) if code.bit_count() <= most)


def _in_order(matrix: Weights, order: Ints) -> Weights:
    """The columns of a matrix in this order, row after row in memory, which indexing with an array would not give."""
    return matrix if (order[1:] > order[:-1]).all() else np.take(matrix, order, axis=1)
