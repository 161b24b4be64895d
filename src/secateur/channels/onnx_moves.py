"""Operators of ONNX that move numbers, run on any array in the place of the numbers.

    Reshape Flatten Squeeze Unsqueeze Transpose Expand Tile Concat Split Slice Gather DepthToSpace SpaceToDepth

Arrays may repeat entries by stride 0 (all pixels of a channel); as far as that is easy the results do so too.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.graph.ir import Graph, Node

Array = NDArray[Any]


# Half a GiB of ids: what copies more is not followed.
MAX_COPIED = 1 << 26
_COPYING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Tile", "DepthToSpace", "SpaceToDepth")


def too_large(graph: Graph, node: Node) -> bool:
    """Whether a node might copy more numbers than anybody wants to follow."""
    return node.op in _COPYING and math.prod(graph.shape(node.outputs[0])) > MAX_COPIED


def moved(graph: Graph, node: Node, arrays: Sequence[Array]) -> list[Array] | None:
    """What a node of MOVES makes of arrays; None where the numbers that it carries are computed.

    arrays    in the place of its inputs, in their shapes; only operands that are moved are read
    returns   one for each output, in its shape
    """
    return MOVES[node.op](graph, node, arrays)


def reshaped(array: Array, shape: Sequence[int]) -> Array:
    """The same numbers in another shape; sides at the end that stay, and repeat one entry, are not copied."""
    before, after = list(array.shape), list(shape)
    tail: list[int] = []
    while before and after and before[-1] == after[-1] and (array.strides[len(before) - 1] == 0 or before[-1] == 1):
        tail.insert(0, before.pop())
        after.pop()
    core = array[(..., *(0 for _ in tail))].reshape(after)
    return np.broadcast_to(core.reshape(*after, *(1 for _ in tail)), tuple(shape))


def slices_of(graph: Graph, node: Node) -> dict[int, tuple[int, ...]] | None:
    """Axis -> the entries that a Slice picks; None where its numbers are computed."""
    operands = [graph.constants.get(name) if name else None for name in node.inputs[1:]]
    if len(operands) < 2 or any(operand is None for operand in operands[:2]):
        return None
    if any(operand is None and name for operand, name in zip(operands, node.inputs[1:], strict=True)):
        return None
    starts, ends, axes, steps = (
        [int(number) for number in operand.reshape(-1)] if operand is not None else None
        for operand in (*operands, None, None)[:4]
    )
    assert starts is not None and ends is not None
    shape = graph.shape(node.inputs[0])
    picked: dict[int, tuple[int, ...]] = {}
    for place, axis in enumerate(axes if axes is not None else range(len(starts))):
        step = steps[place] if steps is not None else 1
        if step == 0:
            return None
        picked[axis % len(shape)] = tuple(range(shape[axis % len(shape)])[starts[place] : ends[place] : step])
    return picked


def _reshape(graph: Graph, node: Node, arrays: Sequence[Array]) -> list[Array]:
    return [reshaped(arrays[0], graph.shape(node.outputs[0]))]


def _transpose(graph: Graph, node: Node, arrays: Sequence[Array]) -> list[Array]:
    return [np.transpose(arrays[0], node.attributes.get("perm"))]


def _expand(graph: Graph, node: Node, arrays: Sequence[Array]) -> list[Array]:
    return [np.broadcast_to(arrays[0], graph.shape(node.outputs[0]))]


def _tile(graph: Graph, node: Node, arrays: Sequence[Array]) -> list[Array] | None:
    repeats = graph.constants.get(node.inputs[1])
    return None if repeats is None else [np.tile(arrays[0], [int(number) for number in repeats])]


def _concat(graph: Graph, node: Node, arrays: Sequence[Array]) -> list[Array]:
    axis = int(node.attributes["axis"]) % arrays[0].ndim
    parts = [array for array in arrays if array.size] or list(arrays[:1])
    short = tuple(
        slice(0, 1)
        if i != axis and all(array.strides[i] == 0 or array.shape[i] == 1 for array in parts)
        else slice(None)
        for i in range(arrays[0].ndim)
    )
    joined = np.concatenate([array[short] for array in parts], axis=axis)
    return [np.broadcast_to(joined, graph.shape(node.outputs[0]))]


def _split(graph: Graph, node: Node, arrays: Sequence[Array]) -> list[Array] | None:
    if not all(node.outputs):
        return None
    axis = int(node.attributes.get("axis", 0)) % arrays[0].ndim
    sizes = [graph.shape(name)[axis] for name in node.outputs]
    return list(np.split(arrays[0], np.cumsum(sizes)[:-1], axis=axis))


def _pick(graph: Graph, node: Node, arrays: Sequence[Array]) -> list[Array] | None:
    picked = slices_of(graph, node)
    if picked is None:
        return None
    result = arrays[0]
    for axis, entries in picked.items():
        result = taken(result, np.array(entries, np.int64), axis)
    return [result]


def taken(array: Array, entries: NDArray[np.int64], axis: int) -> Array:
    """Entries of an axis; where all of them are one entry by stride 0, no copy."""
    if array.strides[axis] == 0 and len(entries):
        sides = [len(entries) if i == axis else side for i, side in enumerate(array.shape)]
        return np.broadcast_to(array[(slice(None),) * axis + (slice(0, 1),)], sides)
    short = tuple(slice(0, 1) if i != axis and stride == 0 else slice(None) for i, stride in enumerate(array.strides))
    sides = [len(entries) if i == axis else side for i, side in enumerate(array.shape)]
    return np.broadcast_to(np.take(array[short], entries, axis=axis), sides)


def _gather(graph: Graph, node: Node, arrays: Sequence[Array]) -> list[Array] | None:
    picks = graph.constants.get(node.inputs[1])
    axis = int(node.attributes.get("axis", 0)) % max(arrays[0].ndim, 1)
    return None if picks is None else [np.take(arrays[0], picks.astype(np.int64), axis=axis)]


def _depth_to_space(graph: Graph, node: Node, arrays: Sequence[Array]) -> list[Array]:
    n, c, h, w = arrays[0].shape
    block = int(node.attributes["blocksize"])
    if node.attributes.get("mode", "DCR") == "DCR":
        parts = arrays[0].reshape(n, block, block, c // block**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        parts = arrays[0].reshape(n, c // block**2, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    return [parts.reshape(n, c // block**2, h * block, w * block)]


def _space_to_depth(graph: Graph, node: Node, arrays: Sequence[Array]) -> list[Array]:
    n, c, h, w = arrays[0].shape
    block = int(node.attributes["blocksize"])
    parts = arrays[0].reshape(n, c, h // block, block, w // block, block).transpose(0, 3, 5, 1, 2, 4)
    return [parts.reshape(n, c * block**2, h // block, w // block)]


MOVES: dict[str, Callable[[Graph, Node, Sequence[Array]], list[Array] | None]] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Transpose": _transpose,
    "Expand": _expand,
    "Tile": _tile,
    "Concat": _concat,
    "Split": _split,
    "Slice": _pick,
    "Gather": _gather,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
