"""Operators that move the elements of one tensor: views where the elements already lie right, copies where not."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from secateur.engine.layout import INTEGERS, Flat, Layout, Planes, Quads
from secateur.engine.lowering import quad_moves
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.moves import View, move, view
from secateur.engine.lowering.quad_relayout import Part, gather_channels
from secateur.engine.lowering.refusals import elements, movable, normal
from secateur.engine.lowering.relayout import copy_planes, plane_offsets, to_flat, to_planes
from secateur.engine.lowering.walk import joined, strides_of
from secateur.graph.ir import Graph, Node


@lowers("Split", refuses=movable)
def split(node: Node, context: Context) -> None:
    """A view, or a copy, for each part."""
    axis: int = node.attributes["axis"]
    x = context.tensor(node.inputs[0])
    if axis == 1 and quad_moves.is_map(x):
        begin = 0
        for name, size in zip(node.outputs, _integers(node, "sizes"), strict=True):
            quad_moves.select_channels(context, x, np.arange(begin, begin + size), name)
            begin += size
        return
    x = quad_moves.words_of(x)
    steps = strides_of(x)
    offset = 0
    for name, size in zip(node.outputs, _integers(node, "sizes"), strict=True):
        take(context, name, View(x, tuple(steps), offset))
        offset += size * steps[axis]


@lowers("Slice", refuses=movable)
def slice_(node: Node, context: Context) -> None:
    """A view where the elements are whole planes or neighbours, else a copy."""
    x, name = context.tensor(node.inputs[0]), node.outputs[0]
    axes, starts, jumps = (list(_integers(node, key)) for key in ("axes", "starts", "steps"))
    if quad_moves.is_map(x):
        if 1 in axes:
            at = axes.index(1)
            channels = starts[at] + jumps[at] * np.arange(context.graph.shape(name)[1])
            if len(axes) == 1:
                quad_moves.select_channels(context, x, channels, name)
                return
            x = quad_moves.channels_at(context, x, channels)
            del axes[at], starts[at], jumps[at]
        x = x.words
    steps, offset = strides_of(x), 0
    for axis, start, step in zip(axes, starts, jumps, strict=True):
        offset += start * steps[axis]
        steps[axis] *= step
    take(context, name, View(x, tuple(steps), offset))


def _refuses_same(node: Node, graph: Graph) -> str | None:
    return elements(node, graph) if node.op == "Identity" else normal(node, graph)


@lowers("Reshape", "Identity", refuses=_refuses_same)
def reshape(node: Node, context: Context) -> None:
    """The same elements in the same order: a view wherever both lie densely."""
    name = node.outputs[0]
    kind = context.graph.type(name)
    x, wanted = context.tensor(node.inputs[0]), context.layout_of(name)
    if x.constant is not None:
        context.places[name] = Tensor(Flat(kind.shape), constant=x.constant.reshape(kind.shape))
        return
    if quad_moves.are_bytes(context.graph, node):
        quad_moves.reshape(context, x, name)
    elif isinstance(x.layout, Planes) and isinstance(wanted, Planes):
        same = _with_same_planes(x.layout, wanted)
        context.places[name] = Tensor(same, x.buffer, x.offset) if same else _through_dense(context, x, name)
    elif isinstance(wanted, Planes):
        flat = Tensor(Flat(kind.shape), x.buffer, x.offset)
        context.places[name] = to_planes(context, flat, target=context.place(name))
    else:
        dense = to_flat(context, x)
        context.places[name] = Tensor(Flat(kind.shape), dense.buffer, dense.offset)


@lowers("Transpose", refuses=movable)
def transpose(node: Node, context: Context) -> None:
    """Axes in another order."""
    x, perm = context.tensor(node.inputs[0]), _integers(node, "perm")
    if quad_moves.are_bytes(context.graph, node):
        quad_moves.transpose(context, x, perm, node.outputs[0])
        return
    steps = strides_of(x)
    turned = tuple(steps[axis] for axis in perm)
    take(context, node.outputs[0], View(x, turned))


@lowers("ChannelShuffle", refuses=movable)
def channel_shuffle(node: Node, context: Context) -> None:
    """Channel i of group g becomes channel i groups + g."""
    x, y = context.tensor(node.inputs[0]), context.place(node.outputs[0])
    groups = node.attributes["groups"]
    n, c = x.shape[:2]
    order = np.arange(n * c).reshape(n, groups, c // groups).swapaxes(1, 2).reshape(-1)
    if quad_moves.is_map(x):
        gather_channels(context, [Part(x, order[:c])], y)
        return
    if len(x.shape) == 4 and _item(context, node.inputs[0]) == 4:
        copy_planes(context, x, y, plane_offsets(x)[0][order], plane_offsets(y)[0])
        return
    sizes = (n, c // groups, groups, *x.shape[2:])
    (a, b, *rest), (d, e, *rest_y) = strides_of(x), strides_of(y)
    source = View(x, (a, b, b * (c // groups), *rest))
    move(context, source, View(y, (d, e * groups, e, *rest_y)), sizes, _item(context, node.inputs[0]))


@lowers("DepthToSpace", refuses=movable)
def depth_to_space(node: Node, context: Context) -> None:
    """Blocks of channels become blocks of pixels."""
    x, y = context.tensor(node.inputs[0]), context.place(node.outputs[0])
    block = node.attributes["blocksize"]
    if quad_moves.is_map(y):
        quad_moves.depth_to_space(context, x, y, block, depth_first=node.attributes["mode"] == "DCR")
        return
    (image, plane, row, column), target = strides_of(x), strides_of(y)
    n, c, h, w = x.shape
    c //= block * block
    depth_first = node.attributes["mode"] == "DCR"
    inner, outer = (plane, plane * c) if depth_first else (plane * block * block, plane)
    sizes = (n, c, h, block, w, block)
    source = (image, inner, row, outer * block, column, outer)
    _move_blocks(context, node, (x, source), (y, _blocks(target, block)), sizes)


@lowers("SpaceToDepth", refuses=movable)
def space_to_depth(node: Node, context: Context) -> None:
    """Blocks of pixels become blocks of channels."""
    x, y = context.tensor(node.inputs[0]), context.place(node.outputs[0])
    block = node.attributes["blocksize"]
    if quad_moves.is_map(x):
        quad_moves.space_to_depth(context, x, y, block)
        return
    n, c, h, w = x.shape
    image, plane, row, column = strides_of(y)
    sizes = (n, block, block, c, h // block, w // block)
    source = strides_of(x)
    from_ = (source[0], source[2], source[3], source[1], source[2] * block, source[3] * block)
    to = (image, plane * c * block, plane * c, plane, row, column)
    _move_blocks(context, node, (x, from_), (y, to), sizes)


def _blocks(steps: Sequence[int], block: int) -> tuple[int, ...]:
    """Steps over (n, c, h, block, w, block) of a tensor (n, c, h block, w block)."""
    image, plane, row, column = steps
    return (image, plane, row * block, row, column * block, column)


def _move_blocks(
    context: Context,
    node: Node,
    source: tuple[Tensor, tuple[int, ...]],
    target: tuple[Tensor, tuple[int, ...]],
    sizes: tuple[int, ...],
) -> None:
    move(context, View(*source), View(*target), sizes, _item(context, node.inputs[0]))


def take(context: Context, name: str, source: View) -> None:
    """Give a value its place: a view of another tensor where that has the value's layout, else a copy.

    source    of 4-byte elements where the value lies in quads
    """
    kind = context.graph.type(name)
    wanted = context.layout_of(name)
    own = wanted.words if isinstance(wanted, Quads) else wanted
    x = source.tensor
    if kind.dtype in INTEGERS and isinstance(x.layout, Planes) and not isinstance(wanted, Quads):
        quad_moves.take_pixels(context, source, context.place(name))
        return
    if x.buffer is not None and name not in context.views:
        layout = _view_layout(x, source, own)
        if layout is not None:
            if isinstance(wanted, Quads):
                assert isinstance(layout, Planes)
                layout = replace(wanted, words=layout)
            context.places[name] = Tensor(layout, x.buffer, x.offset + source.offset)
            return
    target = context.place(name)
    if isinstance(wanted, Quads):
        move(context, source, view(target.words), own.shape)
    else:
        move(context, source, view(target), kind.shape, kind.numpy.itemsize)


def _view_layout(x: Tensor, source: View, wanted: Layout) -> Layout | None:
    """The layout of a view if it is one that other lowerings understand."""
    if isinstance(wanted, Flat):
        own = np.array([strides_of(Tensor(wanted)), source.steps], np.int64).reshape(2, -1)
        _, steps = joined(wanted.shape, own)
        dense = steps.shape[1] == 0 or (steps.shape[1] == 1 and (steps == 1).all())
        return wanted if dense else None
    if not isinstance(x.layout, Planes) or not isinstance(wanted, Planes):
        return None
    image, plane, row, column = source.steps
    same = (plane, row, column) == (wanted.plane_stride, wanted.pitch, 1)
    aligned = source.offset % wanted.plane_stride == 0 and image % wanted.plane_stride == 0 and image > 0
    if not same or not aligned or (x.layout.h, x.layout.w) != (wanted.h, wanted.w):
        return None
    return replace(wanted, image_stride=image, fill=x.layout.fill)


def _with_same_planes(x: Planes, wanted: Planes) -> Planes | None:
    """The wanted shape over the planes of x, where only images and channels change."""
    if (x.h, x.w, x.pitch, x.plane_stride) != (wanted.h, wanted.w, wanted.pitch, wanted.plane_stride):
        return None
    if (x.n, x.c) == (wanted.n, wanted.c):
        return x
    return wanted if x.n == 1 or x.image_stride == x.c * x.plane_stride else None


def _through_dense(context: Context, x: Tensor, name: str) -> Tensor:
    dense = to_flat(context, x)
    flat = Tensor(Flat(context.graph.shape(name)), dense.buffer, dense.offset)
    return to_planes(context, flat, target=context.place(name))


def _item(context: Context, name: str) -> int:
    return context.graph.type(name).numpy.itemsize


def _integers(node: Node, key: str) -> tuple[int, ...]:
    return node.attributes[key]
