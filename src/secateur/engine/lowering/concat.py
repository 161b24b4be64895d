"""Concat nodes: parts that are computed where they lie in the result, and copies of the others.

A concatenation along the channels is an address assignment: its parts are computed into the planes of the result
(`concat_views` decides which). Splits and slices of channels (shape_ops.py) are views the other way round.
"""

from collections.abc import Sequence

from secateur.engine.layout import INTEGERS, Picked, Planes, Quads
from secateur.engine.lowering import quad_moves
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.moves import View, move, view
from secateur.engine.lowering.quad_elementwise import equal_numbers
from secateur.engine.lowering.refusals import movable
from secateur.engine.lowering.relayout import copy_planes, plane_offsets, to_flat
from secateur.engine.lowering.walk import strides_of
from secateur.graph.ir import Graph, Node

# Lowerings of these operators give their results a place of their own choice.
_PLACES_ITSELF = ("Gather", "Identity", "Reshape", "Slice", "Split")


def concat_views(graph: Graph, context: Context) -> dict[str, tuple[str, int]]:
    """Value -> (concatenation, its first channel there), for parts that are computed in place.

    1. The result lies in planes and is a concatenation along the channels.
    2. A part is the result of a node that writes where it is told, and lies in one place only.
    3. A concatenation whose own parts lie next to each other in a later, larger one is a view of it (DenseNet).
    4. A part of 8-bit integers begins with a quad and ends with one, or with the last channel, and has the numbers of
       the result.
    """
    producer = graph.producer()
    views: dict[str, tuple[str, int]] = {}
    for node in reversed(graph.nodes):
        if node.op not in ("Concat", "QConcat") or node.domain != "secateur" or node.attributes["axis"] != 1:
            continue
        if not isinstance(context.layout_of(node.outputs[0]), Planes | Quads):
            continue
        whole = node.outputs[0]
        if whole not in views and (outer := _neighbours(graph, node, views)) is not None:
            views[whole] = outer
            continue
        channel = 0
        for name in node.inputs:
            made_by = producer.get(name)
            free = made_by and made_by.op not in _PLACES_ITSELF and name not in views and node.inputs.count(name) == 1
            if free and _may_lie(graph, node, name, channel):
                views[name] = (whole, channel)
            channel += graph.shape(name)[1]
    return views


def _may_lie(graph: Graph, node: Node, name: str, channel: int) -> bool:
    """Rule 4."""
    if graph.type(name).dtype not in INTEGERS:
        return True
    if node.op == "QConcat" and not equal_numbers(node, node.inputs.index(name), graph):
        return False
    behind = channel + graph.shape(name)[1]
    return channel % 4 == 0 and (behind % 4 == 0 or behind == graph.shape(node.outputs[0])[1])


def _neighbours(graph: Graph, node: Node, views: dict[str, tuple[str, int]]) -> tuple[str, int] | None:
    """Where a concatenation lies when all its parts already lie in order in another one (rule 3)."""
    first = views.get(node.inputs[0])
    if first is None:
        return None
    whole, channel = first
    for name in node.inputs:
        if views.get(name) != (whole, channel):
            return None
        channel += graph.shape(name)[1]
    return first


@lowers("Concat", refuses=movable)
def concat(node: Node, context: Context) -> None:
    """Copy the parts that do not lie in the result already."""
    emit_concat(context, node, [quad_moves.stored(context, part) for part in node.inputs])


def emit_concat(context: Context, node: Node, parts: Sequence[Tensor]) -> None:
    """The steps that put parts behind each other, where they do not lie so already."""
    axis: int = node.attributes["axis"]
    name = node.outputs[0]
    whole = context.places.get(name) or context.place(name)
    if axis == 1 and quad_moves.is_map(whole):
        quad_moves.concat_channels(context, parts, whole)
        return
    item = context.graph.type(name).numpy.itemsize
    if quad_moves.is_map(whole):
        # Maps of one pixel and constants are dense, and maps that become higher or wider of them are not.
        parts, item = [quad_moves.as_map(context, part, whole) for part in parts], 4
    whole = quad_moves.words_of(whole)
    steps = strides_of(whole)
    offset = 0
    for part in parts:
        tensor = quad_moves.words_of(part)
        target = View(whole, tuple(steps), offset)
        if not _lies_at(tensor, target):
            _move_like(context, tensor, target, tensor.shape, item)
        offset += tensor.shape[axis] * steps[axis]


def _lies_at(tensor: Tensor, target: View) -> bool:
    whole = target.tensor
    return (
        tensor.buffer is not None
        and not isinstance(tensor.layout, Picked)
        and tensor.buffer == whole.buffer
        and tensor.offset == whole.offset + target.offset
        and tuple(strides_of(tensor)) == target.steps
    )


def _move_like(context: Context, tensor: Tensor, target: View, sizes: Sequence[int], item: int) -> None:
    """Copy a tensor onto a view of the same sizes: plane by plane where both are planes."""
    whole, own = target.tensor, tensor.layout
    own = own.whole if isinstance(own, Picked) else own
    if isinstance(own, Planes) and isinstance(whole.layout, Planes) and _whole_planes(own, target):
        part = Tensor(whole.layout.channels(tensor.shape[1]), whole.buffer, whole.offset + target.offset)
        copy_planes(context, tensor, part, plane_offsets(tensor)[0], plane_offsets(part)[0])
    else:
        tensor = to_flat(context, tensor) if isinstance(tensor.layout, Picked) else tensor
        move(context, view(tensor), target, sizes, item)


def _whole_planes(layout: Planes, target: View) -> bool:
    outer = target.tensor.planes
    return (layout.h, layout.w) == (outer.h, outer.w) and target.offset % outer.plane_stride == 0
