"""Pad: elements around a tensor, a constant or taken from inside."""

import numpy as np
from numpy.typing import NDArray

from secateur.engine.layout import Planes, quads, stored_zero
from secateur.engine.lowering import quad_moves
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.moves import View, fill, move, move_rows
from secateur.engine.lowering.quad_relayout import channels_of, put_channels, to_bytes, to_quads
from secateur.engine.lowering.refusals import normal, normal_float32
from secateur.engine.lowering.relayout import element_of, shifted
from secateur.engine.lowering.walk import strides_of
from secateur.graph.ir import Graph, Node

INSIDE = ("reflect", "edge", "wrap")


def _refuses(node: Node, graph: Graph) -> str | None:
    if quad_moves.are_bytes(graph, node):
        pads, shape = node.attributes["pads"], graph.shape(node.inputs[0])
        channels = bool(pads[1] or pads[5]) if len(shape) == 4 else True
        if len(shape) != 4 or pads[0] or pads[4] or (channels and node.attributes["mode"] != "constant"):
            return "it pads something else than channels, height and width of 8-bit integers, with a constant"
        reason = normal(node, graph)
    else:
        reason = normal_float32(node, graph)
    if reason is not None or node.attributes["mode"] == "constant":
        return reason
    shape, pads = graph.shape(node.inputs[0]), node.attributes["pads"]
    if node.attributes["mode"] not in INSIDE or not shape:
        return f"its mode is {node.attributes['mode']}"
    largest = [max(pads[axis], pads[axis + len(shape)]) for axis in range(len(shape))]
    if node.attributes["mode"] != "edge" and any(pad >= size for pad, size in zip(largest, shape, strict=True)):
        return "it pads by more than the tensor has"
    return None


@lowers("Pad", refuses=_refuses)
def pad(node: Node, context: Context) -> None:
    """A constant around, or the mirror image, the edge, or the other side."""
    x, y = context.tensor(node.inputs[0]), context.place(node.outputs[0])
    pads: tuple[int, ...] = node.attributes["pads"]
    if quad_moves.are_bytes(context.graph, node):
        _pad_bytes(context, node, x, y, pads)
    else:
        _around(context, x, y, pads, node.attributes["mode"], float(node.attributes["value"]))


def _pad_bytes(context: Context, node: Node, x: Tensor, y: Tensor, pads: tuple[int, ...]) -> None:
    """Maps of 8-bit integers: height and width as 4-byte elements, channels by themselves."""
    n, c = x.shape[:2]
    byte = stored_zero(int(node.attributes["value"]), context.graph.type(node.inputs[0]).dtype)
    if not quad_moves.is_map(x):
        x = to_quads(context, x, quads((n, c, x.shape[2], x.shape[3]), byte))
    target = y if quad_moves.is_map(y) else context.temporary(quads((n, y.shape[1], y.shape[2], y.shape[3]), byte))
    inner, sides = target, (0, 0, *pads[2:4], 0, 0, *pads[6:])
    if c != y.shape[1]:
        h, w = y.shape[2:]
        inner = context.temporary(quads((n, c, h, w), byte, target.words.planes.pad)) if any(sides) else x
    if any(sides) or inner is target:
        _around(context, x.words, inner.words, sides, node.attributes["mode"], element_of(byte))
    if inner is not target:
        words = target.words
        fill(context, View(words, tuple(strides_of(words))), words.shape, element_of(byte))
        put_channels(context, channels_of(inner), target, pads[1])
    if target is not y:
        to_bytes(context, target, y)


def _around(context: Context, x: Tensor, y: Tensor, pads: tuple[int, ...], mode: str, value: float) -> None:
    """Elements around x."""
    rank = len(x.shape)
    if mode != "constant":
        _from_inside(context, x, y, pads, mode)
        return
    if isinstance(y.layout, Planes) and not any(pads[axis] for axis in (0, 1, 4, 5)):
        shifted(context, x, [(-pads[2], -pads[3])], (1, 1), y.layout, y, value)
        return
    steps = tuple(strides_of(y))
    fill(context, View(y, steps), y.shape, value)
    offset = sum(before * step for before, step in zip(pads[:rank], steps, strict=True))
    move(context, View(x, tuple(strides_of(x))), View(y, steps, offset), x.shape)


def _from_inside(context: Context, x: Tensor, y: Tensor, pads: tuple[int, ...], mode: str) -> None:
    """Every element of the result is one of the operand's; rows are copied in runs of equal steps."""
    rank = len(x.shape)
    pairs = [(pads[axis], pads[axis + rank]) for axis in range(rank)]
    indices = [_spread(size, pair, mode) for size, pair in zip(x.shape, pairs, strict=True)]
    targets, sources = np.zeros(1, np.int64), np.zeros(1, np.int64)
    for index, source_step, target_step in zip(indices[:-1], strides_of(x), strides_of(y), strict=False):
        sources = (sources[:, None] + index * source_step).reshape(-1)
        targets = (targets[:, None] + np.arange(len(index)) * target_step).reshape(-1)
    for begin, end, step in _runs([int(index) for index in indices[-1]]):
        starts = np.stack([targets + begin, sources + indices[-1][begin]])
        move_rows(context, x, y, starts, step, end - begin)


def _spread(size: int, pads: tuple[int, int], mode: str) -> NDArray[np.int64]:
    """Index of the operand for every index of the result along an axis."""
    inside = np.arange(size)
    if mode == "reflect":
        return np.pad(inside, pads, mode="reflect")
    return np.pad(inside, pads, mode="edge") if mode == "edge" else np.pad(inside, pads, mode="wrap")


def _runs(indices: list[int]) -> list[tuple[int, int, int]]:
    """Stretches (first, one behind the last, step) in which neighbours differ by the same step."""
    runs: list[tuple[int, int, int]] = []
    begin = 0
    while begin < len(indices):
        end = begin + 1
        step = indices[end] - indices[begin] if end < len(indices) else 1
        while end < len(indices) and indices[end] - indices[end - 1] == step:
            end += 1
        runs.append((begin, end, step))
        begin = end
    return runs
