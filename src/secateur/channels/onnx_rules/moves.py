"""Operators that move numbers: they are run on the ids themselves.

What is cut out of a value must be a box, a set of entries of every axis, or no smaller node could move the rest. Where
channels would vary along two axes, those along all but the one with the most become one. Reshapes and transposes that
together only pick channels in another order (a channel shuffle) are looked at as one: a Gather can take their place.
"""

import numpy as np

from secateur.channels.groups import IntArray
from secateur.channels.onnx_moves import MOVES, moved, reshaped, too_large
from secateur.channels.onnx_table import OnnxTrace, Shuffle, called, lined, refuse, rule
from secateur.graph.ir import Node

_LONGEST_SHUFFLE = 6


@rule("Flatten Squeeze Unsqueeze Transpose Expand Tile Concat Split Slice Gather DepthToSpace SpaceToDepth")
def move(trace: OnnxTrace, node: Node) -> None:
    """Works for any number of channels."""
    moving = node.inputs if node.op == "Concat" else node.inputs[:1]
    if any(trace.is_value(name) for name in node.inputs if name not in moving):
        refuse(trace, node, f"{called(node)} by computed numbers")
        return
    if too_large(trace.graph, node):
        refuse(trace, node, f"{called(node)} of too many numbers")
        return
    if node.op == "Gather" and len(trace.shape(node.inputs[1])) != 1 and _picks_channels(trace, node):
        refuse(trace, node, f"{called(node)} of fixed channels")
        return
    results = moved(trace.graph, node, [trace.of(name) for name in moving])
    if results is None:
        refuse(trace, node, f"{called(node)} by computed numbers")
        return
    for name, ids in zip(node.outputs, results, strict=True):
        trace.set(name, _boxed(trace, ids))


@rule("Reshape")
def reshape(trace: OnnxTrace, node: Node) -> None:
    """Joining axes works for any number of channels; cutting one in parts ties the parts, except in a shuffle."""
    if any(trace.is_value(name) for name in node.inputs[1:]):
        refuse(trace, node, f"{called(node)} by computed numbers")
        return
    if too_large(trace.graph, node):
        refuse(trace, node, f"{called(node)} of too many numbers")
        return
    ids = reshaped(trace.of(node.inputs[0]), trace.shape(node.outputs[0]))
    if len(_varying(trace, ids)) > 1 and _shuffle(trace, node):
        return
    trace.set(node.outputs[0], _boxed(trace, ids))


def _picks_channels(trace: OnnxTrace, node: Node) -> bool:
    axis = int(node.attributes.get("axis", 0)) % len(trace.shape(node.inputs[0]))
    return trace.varies(node.inputs[0], axis)


def _varying(trace: OnnxTrace, ids: IntArray) -> list[int]:
    return [axis for axis in range(ids.ndim) if trace.ids.varies(ids, axis)]


def _boxed(trace: OnnxTrace, ids: IntArray) -> IntArray:
    axes = _varying(trace, ids)
    if len(axes) < 2:
        return ids

    def channels(axis: int) -> int:
        line = ids[tuple(slice(None) if i == axis else 0 for i in range(ids.ndim))]
        return len(np.unique(trace.ids.roots(line)))

    widest = max(axes, key=channels)
    return np.broadcast_to(lined(trace.ids.along(ids, widest), widest, ids.ndim), ids.shape)


def _shuffle(trace: OnnxTrace, first: Node) -> bool:
    """Note a chain that begins with a reshape and only reorders channels; whether it is one."""
    source = first.inputs[0]
    axes = _varying(trace, trace.of(source))
    if len(axes) != 1:
        return False
    shape, (axis,) = trace.shape(source), axes
    places = np.broadcast_to(lined(np.arange(shape[axis]), axis, len(shape)), shape)
    chain: list[Node] = []
    values: dict[str, IntArray] = {}
    node, ids = first, trace.of(source)
    while True:
        chain.append(node)
        target = node.outputs[0]
        places = moved(trace.graph, node, [places])[0]  # type: ignore[index]
        ids = moved(trace.graph, node, [ids])[0]  # type: ignore[index]
        values[target] = ids
        if places.shape == shape:
            line = np.moveaxis(places, axis, 0).reshape(shape[axis], -1)[:, 0]
            if np.array_equal(places, np.broadcast_to(lined(line, axis, len(shape)), shape)):
                break
        readers = trace.nodes_of(target)
        if len(readers) != 1 or target in trace.graph.outputs or len(chain) == _LONGEST_SHUFFLE:
            return False
        node = readers[0]
        if node.op not in ("Reshape", "Transpose") or node.inputs[0] != target or node.op not in MOVES:
            return False
    for name, value in values.items():
        trace.set(name, value)
    trace.done |= {node.name for node in chain}
    trace.shuffles.append(Shuffle(tuple(chain), source, target, axis, line))
    return True
