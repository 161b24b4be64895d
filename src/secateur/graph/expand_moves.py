"""Operators that only move elements as ONNX operators: other shapes, other orders, parts, borders."""

from collections.abc import Callable

import numpy as np

from secateur.graph.expand_writer import Writer


def expand_moves(writer: Writer) -> None:
    """Write one node of the operators in MOVES."""
    MOVES[writer.node.op](writer)


def _reshape(writer: Writer) -> None:
    writer.emit("Reshape", (writer.node.inputs[0], writer.integers(writer.node.attributes["shape"])), writer.out)


def _transpose(writer: Writer) -> None:
    writer.emit("Transpose", writer.node.inputs, writer.out, perm=writer.node.attributes["perm"])


def _concat(writer: Writer) -> None:
    writer.emit("Concat", writer.node.inputs, writer.out, axis=writer.node.attributes["axis"])


def _split(writer: Writer) -> None:
    node = writer.node
    sizes, axis = node.attributes["sizes"], node.attributes["axis"]
    if writer.opset < 13:
        writer.emit("Split", node.inputs, node.outputs, axis=axis, split=sizes)
    else:
        writer.emit("Split", (node.inputs[0], writer.integers(sizes)), node.outputs, axis=axis)


def _slice(writer: Writer) -> None:
    parts = [writer.integers(writer.node.attributes[key]) for key in ("starts", "ends", "axes", "steps")]
    writer.emit("Slice", (writer.node.inputs[0], *parts), writer.out)


def _pad(writer: Writer) -> None:
    attributes = writer.node.attributes
    dtype = np.dtype(writer.draft.types[writer.out].dtype)
    value = writer.draft.constant(f"{writer.node.name}/v", np.array(attributes["value"], dtype))
    last = (value,) if attributes["mode"] == "constant" else ()
    pads = writer.integers(attributes["pads"])
    writer.emit("Pad", (writer.node.inputs[0], pads, *last), writer.out, mode=attributes["mode"])


def _channel_shuffle(writer: Writer) -> None:
    n, c, *rest = writer.draft.shape(writer.out)
    groups = int(writer.node.attributes["groups"])
    split, swapped = (n, groups, c // groups, *rest), (n, c // groups, groups, *rest)
    perm = (0, 2, 1, *range(3, len(split)))
    value = writer.step("Reshape", (writer.node.inputs[0], writer.integers(split)), split)
    value = writer.step("Transpose", (value,), swapped, perm=perm)
    writer.emit("Reshape", (value, writer.integers((n, c, *rest))), writer.out)


def _space(writer: Writer) -> None:
    writer.emit(writer.node.op, writer.node.inputs, writer.out, **writer.node.attributes)


MOVES: dict[str, Callable[[Writer], None]] = {
    "ChannelShuffle": _channel_shuffle,
    "Concat": _concat,
    "DepthToSpace": _space,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space,
    "Split": _split,
    "Transpose": _transpose,
}
