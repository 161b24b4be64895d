"""Operators that only move elements, on 8-bit integers.

What leaves channels alone moves quads as if they were floats (`words_of`). Channels move in whole quads, as views or
copies of planes, where they can, byte by byte where not (quad_relayout.gather_channels); so do dense arrays.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from secateur.engine.layout import INTEGERS, Flat, Quads, quads, quads_of, stored_zero
from secateur.engine.lowering.context import Context, Tensor
from secateur.engine.lowering.moves import View, move, view
from secateur.engine.lowering.quad_relayout import Part, channels_of, gather_channels, to_bytes, to_quads
from secateur.engine.lowering.walk import strides_of
from secateur.graph.ir import Graph, Node

Ints = NDArray[np.int64]


def are_bytes(graph: Graph, node: Node) -> bool:
    """Whether a node works on 8-bit integers."""
    return graph.type(node.inputs[0]).dtype in INTEGERS


def is_map(tensor: Tensor) -> bool:
    """Whether a tensor lies in quads."""
    return isinstance(tensor.layout, Quads)


def words_of(tensor: Tensor) -> Tensor:
    """A tensor of quads as one of 4-byte elements; any other as it is."""
    return tensor.words if is_map(tensor) else tensor


def stored(context: Context, name: str) -> Tensor:
    """A value as it lies in memory; constants of int8, which come as in the file, as all others do."""
    x = context.tensor(name)
    zero = stored_zero(0, context.graph.type(name).dtype)
    if x.constant is None or not zero:
        return x
    return replace(x, constant=x.constant.view(np.uint8) ^ np.uint8(zero))


def concat_channels(context: Context, tensors: Sequence[Tensor], whole: Tensor) -> None:
    """Maps behind each other."""
    gather_channels(context, [channels_of(as_map(context, tensor, whole)) for tensor in tensors], whole)


def as_map(context: Context, tensor: Tensor, whole: Tensor) -> Tensor:
    """A tensor in quads, with the padding of a map that it becomes a part of."""
    return tensor if is_map(tensor) else to_quads(context, tensor, quads(_sizes(tensor), whole.words.planes.fill))


def channels_at(context: Context, x: Tensor, channels: Ints) -> Tensor:
    """Channels of a map as a map: where they lie, if they are neighbours from the beginning of a quad on."""
    made = _neighbours(x, channels)
    if made is None:
        n, _, h, w = _sizes(x)
        made = context.temporary(quads((n, len(channels), h, w), x.words.planes.fill, x.words.planes.pad))
        gather_channels(context, [Part(x, channels)], made)
    return made


def select_channels(context: Context, x: Tensor, channels: Ints, name: str) -> None:
    """Give a value its place: channels of a map."""
    made = _neighbours(x, channels)
    if made is not None and name not in context.views and isinstance(context.layout_of(name), Quads):
        context.places[name] = made
        return
    y = context.place(name)
    if is_map(y):
        gather_channels(context, [Part(x, channels)], y)
    else:
        to_bytes(context, channels_at(context, x, channels), y)


def take_pixels(context: Context, source: View, y: Tensor) -> None:
    """Copy a view of quads as the dense bytes that a map of one pixel is."""
    made = context.temporary(quads(_sizes(y), source.tensor.planes.fill))
    move(context, source, view(made.words), made.words.shape)
    to_bytes(context, made, y)


def transpose(context: Context, x: Tensor, perm: Sequence[int], name: str) -> None:
    """Axes in another order."""
    y = context.place(name)
    if is_map(x):
        # Bytes go to where they are in the result, or to a dense array of its shape.
        dense = context.temporary(Flat(y.shape), item=1) if is_map(y) else y
        steps = strides_of(dense)
        to_bytes(context, x, dense, steps=[steps[list(perm).index(axis)] for axis in range(len(perm))])
        if dense is not y:
            _to_map(context, dense, y, steps)
        return
    steps = strides_of(x)
    turned = [steps[axis] for axis in perm]
    if is_map(y):
        _to_map(context, x, y, turned)
    else:
        move(context, View(x, tuple(turned)), view(y), y.shape, 1)


def reshape(context: Context, x: Tensor, name: str) -> None:
    """The same elements in the same order."""
    shape = context.graph.shape(name)
    if is_map(x) and x.shape == shape and name not in context.views and isinstance(context.layout_of(name), Quads):
        context.places[name] = x
        return
    dense = to_bytes(context, x)
    flat = Tensor(Flat(shape), dense.buffer, dense.offset)
    if isinstance(context.layout_of(name), Quads):
        _to_map(context, flat, context.place(name), strides_of(flat))
    else:
        context.places[name] = flat


def depth_to_space(context: Context, x: Tensor, y: Tensor, block: int, *, depth_first: bool) -> None:
    """Blocks of channels become blocks of pixels: each phase of the result is a selection of channels."""
    x = as_map(context, x, y)
    n, c, h, w = x.shape
    c //= block * block
    image, plane, row, column = strides_of(y.words)
    for phase in range(block * block):
        channels = phase * c + np.arange(c) if depth_first else np.arange(c) * block * block + phase
        part = channels_at(context, x, channels)
        place = phase // block * row + phase % block * column
        target = View(y.words, (image, plane, row * block, column * block), place)
        move(context, view(part.words), target, (n, quads_of(c), h, w))


def space_to_depth(context: Context, x: Tensor, y: Tensor, block: int) -> None:
    """Blocks of pixels become blocks of channels; a result of one pixel is dense."""
    n, c, h, w = x.shape
    image, plane, row, column = strides_of(x.words)
    target = y if is_map(y) else context.temporary(quads(_sizes(y), x.words.planes.fill))
    parts: list[Part] = []
    for phase in range(block * block):
        made = context.temporary(quads((n, c, h // block, w // block), x.words.planes.fill, target.words.planes.pad))
        place = phase // block * row + phase % block * column
        source = View(x.words, (image, plane, row * block, column * block), place)
        move(context, source, view(made.words), made.words.shape)
        parts.append(channels_of(made))
    gather_channels(context, parts, target)
    if target is not y:
        to_bytes(context, target, y)


def _neighbours(x: Tensor, channels: Ints) -> Tensor | None:
    """A view of neighbouring channels that begin with a quad."""
    first = int(channels[0])
    if first % 4 or bool((np.diff(channels) != 1).any()):
        return None
    own = x.words.planes
    layout = Quads(own.channels(quads_of(len(channels))), len(channels))
    return Tensor(layout, x.buffer, x.offset + first // 4 * own.plane_stride)


def _to_map(context: Context, dense: Tensor, y: Tensor, steps: Sequence[int]) -> None:
    """Bytes of a dense array, at these steps along the axes of a map, as the map."""
    assert isinstance(y.layout, Quads)
    to_quads(context, dense, y.layout, y, steps=steps)


def _sizes(tensor: Tensor) -> tuple[int, int, int, int]:
    n, c, h, w = tensor.shape
    return n, c, h, w
