"""Operators that move elements, in normal form."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import Draft, axes_of, fused, rewrite_nodes


def normal_layout(graph: Graph) -> Graph:
    """ONNX's operators that move elements, with complete attributes instead of operands.

    1. Reshape, Flatten, Squeeze and Unsqueeze are Reshape with the whole shape.
    2. Transpose has its permutation, Concat and Split a non-negative axis, Split all sizes.
    3. Slice has one start, end and step per axis that it cuts; bounds are inside the tensor. A backward slice that
       reaches the first element ends at -(side + 1), since -1 would be the last one.
    4. Pad has one pad per side of the tensor, all befores first, none negative, and a number that it pads with.
    5. DepthToSpace and SpaceToDepth keep their attributes.
    6. Operands that say how to move are constants, else the operator stays.
    """
    return rewrite_nodes(graph, _rule)


def _rule(draft: Draft, node: Node) -> Sequence[Node] | None:
    rule = _RULES.get(node.op) if node.domain == "" else None
    return rule(draft, node) if rule and node.inputs and all(node.outputs) else None


def _reshape(draft: Draft, node: Node) -> Sequence[Node] | None:
    shape = draft.shape(node.outputs[0])
    if draft.types[node.inputs[0]].size != draft.types[node.outputs[0]].size:
        return None
    return [fused("Reshape", node, node.inputs[:1], shape=shape)]


def _transpose(draft: Draft, node: Node) -> Sequence[Node] | None:
    rank = len(draft.shape(node.inputs[0]))
    perm = tuple(node.attributes.get("perm", range(rank - 1, -1, -1)))
    return [fused("Transpose", node, node.inputs, perm=perm)] if sorted(perm) == list(range(rank)) else None


def _concat(draft: Draft, node: Node) -> Sequence[Node] | None:
    inputs = [name for name in node.inputs if draft.types[name].size]
    axes = axes_of([int(node.attributes["axis"])], len(draft.shape(node.outputs[0])))
    return [fused("Concat", node, inputs, axis=axes[0])] if axes else None


def _split(draft: Draft, node: Node) -> Sequence[Node] | None:
    shape = draft.shape(node.inputs[0])
    axes = axes_of([int(node.attributes.get("axis", 0))], len(shape))
    if axes is None:
        return None
    sizes = tuple(draft.shape(name)[axes[0]] for name in node.outputs)
    fits = sum(sizes) == shape[axes[0]]
    return [fused("Split", node, node.inputs[:1], axis=axes[0], sizes=sizes)] if fits else None


def _slice(draft: Draft, node: Node) -> Sequence[Node] | None:
    shape = draft.shape(node.inputs[0])
    starts, ends = integers(draft, node.input(1)), integers(draft, node.input(2))
    if starts is None or ends is None:
        return None
    axes = integers(draft, node.input(3)) if node.input(3) else tuple(range(len(starts)))
    steps = integers(draft, node.input(4)) if node.input(4) else (1,) * len(starts)
    if axes is None or steps is None or not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        return None
    axes = axes_of(axes, len(shape))
    if axes is None:
        return None
    cuts = [
        _bounds(start, end, step, shape[axis]) for start, end, step, axis in zip(starts, ends, steps, axes, strict=True)
    ]
    result = list(shape)
    for axis, cut in zip(axes, cuts, strict=True):
        result[axis] = len(range(*cut))
    if tuple(result) != draft.shape(node.outputs[0]):
        return None
    return [
        fused(
            *("Slice", node, node.inputs[:1]),
            starts=tuple(cut[0] for cut in cuts),
            ends=tuple(cut[1] if cut[1] >= 0 else -(shape[a] + 1) for a, cut in zip(axes, cuts, strict=True)),
            axes=axes,
            steps=tuple(cut[2] for cut in cuts),
        )
    ]


def _bounds(start: int, end: int, step: int, side: int) -> tuple[int, int, int]:
    """Start and end inside a side, as ONNX clamps them; backwards, -1 stands for an end before the first element."""
    low, high = (0, side) if step > 0 else (-1, side - 1)
    start, end = (bound + side if bound < 0 else bound for bound in (start, end))
    return min(max(start, 0), high), min(max(end, low), high), step


def _pad(draft: Draft, node: Node) -> Sequence[Node] | None:
    shape = draft.shape(node.inputs[0])
    given = integers(draft, node.input(1))
    axes = integers(draft, node.input(3)) if node.input(3) else tuple(range(len(shape)))
    axes = axes_of(axes, len(shape)) if axes is not None else None
    if given is None or axes is None or len(given) != 2 * len(axes) or min(given, default=0) < 0:
        return None
    pads = [0] * 2 * len(shape)
    for index, axis in enumerate(axes):
        pads[axis] = given[index]
        pads[axis + len(shape)] = given[index + len(axes)]
    value: Any = 0
    if node.input(2):
        array = draft.array(node.input(2))
        if array is None or array.size != 1:
            return None
        value = array.reshape(-1)[0].item()
    mode = str(node.attributes.get("mode", "constant"))
    return [fused("Pad", node, node.inputs[:1], pads=tuple(pads), mode=mode, value=value)]


def _depth_to_space(draft: Draft, node: Node) -> Sequence[Node] | None:
    mode = str(node.attributes.get("mode", "DCR"))
    return [fused("DepthToSpace", node, node.inputs, blocksize=int(node.attributes["blocksize"]), mode=mode)]


def _space_to_depth(draft: Draft, node: Node) -> Sequence[Node] | None:
    if node.attributes.get("mode", "DCR") != "DCR":
        return None
    return [fused("SpaceToDepth", node, node.inputs, blocksize=int(node.attributes["blocksize"]))]


def integers(draft: Draft, name: str) -> tuple[int, ...] | None:
    """The numbers of a constant list of integers, None for any other value."""
    array = draft.array(name)
    if array is None or array.ndim > 1 or not np.issubdtype(array.dtype, np.integer):
        return None
    return tuple(int(value) for value in array.reshape(-1))


_RULES: dict[str, Callable[[Draft, Node], Sequence[Node] | None]] = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Flatten": _reshape,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
