"""Gather with constant indices: slices and rows of a tensor."""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.layout import Flat, Picked, Quads, quads
from secateur.engine.lowering import quad_moves
from secateur.engine.lowering.context import Context, lowers
from secateur.engine.lowering.moves import View, move_rows
from secateur.engine.lowering.picked import pick
from secateur.engine.lowering.quad_relayout import to_bytes, to_quads
from secateur.engine.lowering.refusals import elements
from secateur.engine.lowering.relayout import copy_planes, plane_offsets
from secateur.engine.lowering.shape_ops import take
from secateur.engine.lowering.walk import rows_of, starts_of, strides_of
from secateur.graph.channel_selection import Channels, in_order, selected
from secateur.graph.ir import Graph, Node


def _refuses(node: Node, graph: Graph) -> str | None:
    if node.inputs[1] not in graph.constants:
        return "its indices are computed while the network runs"
    kinds = [graph.type(name) for name in (node.inputs[0], node.outputs[0])]
    if not quad_moves.are_bytes(graph, node) and any(kind.numpy.itemsize != 4 for kind in kinds):
        return f"it moves {kinds[0].dtype}"
    indices, shape = graph.constants[node.inputs[1]], graph.shape(node.inputs[0])
    side = shape[int(node.attributes.get("axis", 0))] if shape else 0
    if indices.size and not -side <= indices.min() <= indices.max() < side:
        return "its indices lie outside of what it reads from"
    return elements(node, graph)


@lowers("Gather", refuses=_refuses)
def gather(node: Node, context: Context) -> None:
    """Elements along an axis at constant indices: a view for one index, where a slice would be one, and of channels."""
    graph = context.graph
    if quad_moves.are_bytes(graph, node) and (channels := _channels(node, graph)) is not None:
        x = context.tensor(node.inputs[0])
        if not quad_moves.is_map(x):
            n, c, h, w = x.shape
            x = to_quads(context, x, quads((n, c, h, w), 0))
        quad_moves.select_channels(context, x, channels, node.outputs[0])
        return
    if (chosen := selected(graph, node)) is not None:
        _select(context, node, chosen[0])
        return
    x, name = context.tensor(node.inputs[0]), node.outputs[0]
    bytes_ = quad_moves.are_bytes(graph, node)
    if bytes_:
        x = to_bytes(context, x)
    map_ = isinstance(context.layout_of(name), Quads)
    axis = int(node.attributes.get("axis", 0)) % len(x.shape)
    given = graph.constants[node.inputs[1]]
    indices = np.where(given < 0, given + x.shape[axis], given).reshape(-1).astype(np.int64)
    steps = strides_of(x)
    if given.ndim == 0 and not map_:
        take(context, name, View(x, (*steps[:axis], *steps[axis + 1 :]), int(indices[0]) * steps[axis]))
        return
    made = context.place(name)
    y = context.temporary(Flat(made.shape), item=1) if map_ else made
    target = strides_of(y)
    behind = axis + given.ndim
    before = starts_of(x.shape[:axis], np.array([target[:axis], steps[:axis]], np.int64).reshape(2, -1))
    chosen = starts_of(given.shape, np.array([target[axis:behind]], np.int64).reshape(1, -1))
    inner = rows_of(x.shape[axis + 1 :], np.array([target[behind:], steps[axis + 1 :]], np.int64).reshape(2, -1))
    places = np.stack([chosen[0], indices * steps[axis]])
    starts = before[:, :, None, None] + places[:, None, :, None] + inner.starts[:, None, None, :]
    move_rows(context, x, y, np.ascontiguousarray(starts.reshape(2, -1)), 1, inner.length, 1 if bytes_ else 4)
    if isinstance(made.layout, Quads):
        to_quads(context, y, made.layout, made)


def _channels(node: Node, graph: Graph) -> NDArray[np.int64] | None:
    """The channels of a map that are gathered; None where these are not what the indices mean."""
    indices, shape = graph.constants[node.inputs[1]], graph.shape(node.inputs[0])
    if len(shape) != 4 or int(node.attributes.get("axis", 0)) not in (1, -3) or indices.ndim != 1 or not indices.size:
        return None
    if not -shape[1] <= indices.min() <= indices.max() < shape[1]:
        return None
    return np.where(indices < 0, indices + shape[1], indices).astype(np.int64)


def _select(context: Context, node: Node, channels: Channels) -> None:
    """Channels of maps: a view of neighbours, planes that readers pick where they lie, or a copy."""
    x, name = context.tensor(node.inputs[0]), node.outputs[0]
    if in_order(channels) and not isinstance(x.layout, Picked):
        steps = strides_of(x)
        take(context, name, View(x, tuple(steps), int(channels[0]) * steps[1]))
    elif view := pick(context, node, channels):
        context.places[name] = view
    else:
        y = context.place(name)
        sources = plane_offsets(x)[0].reshape(x.shape[:2])[:, channels]
        copy_planes(context, x, y, sources.reshape(-1), plane_offsets(y)[0])
