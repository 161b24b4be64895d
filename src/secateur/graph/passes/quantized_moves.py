"""Moves of elements, on integers instead of floats."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from secateur.graph.ir import Graph, Node
from secateur.graph.quantized.grid import Grid, to_floats, to_integers
from secateur.graph.quantized.sources import Sources, grid_of
from secateur.graph.rewrite import DOMAIN, Draft, is_fused, is_onnx, rewrite_nodes

_MOVES = ("Reshape", "Transpose", "Slice", "Split", "ChannelShuffle", "DepthToSpace", "SpaceToDepth", "Pad", "Resize")


def quantized_moves(graph: Graph) -> Graph:
    """Dequantize behind moves instead of before them, Quantize before them instead of behind: moves work on integers.

    1. Moves are Reshape, Transpose, Slice, Split, ChannelShuffle, DepthToSpace, SpaceToDepth, Gather along one axis,
       Concat of equal numbers, Resize to the nearest, and Pad with a number that the integers have.
    2. The largest of a window is a move too: Pool and GlobalPool with kind max.
    3. Dequantize: the move reads the integers, and its results are dequantized.
    4. A Pad in height and width with zeros works on integers too when they have a scale for each channel.
    5. Quantize: nobody else reads the move's result; it is no Split. The move's operands are quantized.
    """
    return _quantize_before(_dequantize_behind(graph))


def _dequantize_behind(graph: Graph) -> Graph:
    sources, producer = Sources(graph), graph.producer()

    def rule(draft: Draft, node: Node) -> list[Node] | None:
        data = _data(node)
        if is_fused(node, "Pad") and (padded := _by_channel(draft, sources, producer, node)) is not None:
            return padded
        found = [sources.integers(draft, name) for name in data]
        first = found[0] if found else None
        if first is None or any(part is None or part[1] != first[1] for part in found):
            return None
        grid = first[1]
        attributes = _on_integers(node, grid)
        if attributes is None:
            return None
        written = [draft.value(f"{name}.q", draft.shape(name), grid.dtype) for name in node.outputs]
        inputs = (*(part[0] for part in found if part is not None), *node.inputs[len(data) :])
        nodes = [replace(_moving(node, grid), inputs=inputs, outputs=tuple(written), attributes=attributes)]
        for integers, name in zip(written, node.outputs, strict=True):
            numbers = {"scale": grid.scale, "zero": grid.zero}
            nodes.append(Node(f"{node.name}.dequantize.{name}", "Dequantize", (integers,), (name,), numbers, DOMAIN))
        return nodes

    return rewrite_nodes(graph, rule)


def _by_channel(draft: Draft, sources: Sources, producer: Mapping[str, Node], node: Node) -> list[Node] | None:
    """Rule 4."""
    found = sources.channels(draft, node.inputs[0])
    given, rank = node.attributes, len(draft.shape(node.inputs[0]))
    if found is None or given["mode"] != "constant" or given["value"] != 0:
        return None
    if any(given["pads"][axis] for axis in (0, 1, rank, rank + 1)):
        return None
    q, _, grid = found
    value, dequantize = (
        draft.value(f"{node.outputs[0]}.q", draft.shape(node.outputs[0]), grid.dtype),
        producer[node.inputs[0]],
    )
    return [
        replace(node, inputs=(q,), outputs=(value,), attributes={**given, "value": grid.zero}),
        replace(
            dequantize, name=f"{node.name}.dequantize", inputs=(value, *dequantize.inputs[1:]), outputs=node.outputs
        ),
    ]


def _quantize_before(graph: Graph) -> Graph:
    sources, producer = Sources(graph), graph.producer()
    uses = Counter(name for node in graph.nodes for name in node.reads())
    uses.update(graph.outputs)

    def rule(draft: Draft, node: Node) -> list[Node] | None:
        if not is_fused(node, "Quantize") or uses[node.inputs[0]] != 1:
            return None
        move = producer.get(node.inputs[0])
        if move is None or len(move.outputs) != 1:
            return None
        data = _data(move)
        if not data or not draft.floats(*data) or all(sources.integers(draft, name) is not None for name in data):
            return None
        grid = grid_of(draft, node)
        attributes = _on_integers(move, grid)
        if attributes is None:
            return None
        nodes: list[Node] = []
        integers: dict[str, str] = {}
        for name in data:
            if name not in integers:
                integers[name] = draft.value(f"{name}.q", draft.shape(name), grid.dtype)
                nodes.append(replace(node, name=f"{node.name}.{name}", inputs=(name,), outputs=(integers[name],)))
        inputs = (*(integers[name] for name in data), *move.inputs[len(data) :])
        # The float move before it dies: this was its only reader. Its name lives on.
        moved = replace(_moving(move, grid), inputs=inputs, outputs=node.outputs, attributes=attributes)
        return [*nodes, replace(moved, name=f"{move.name}.integers", absorbed=(*move.absorbed, move.name))]

    return rewrite_nodes(graph, rule)


def _data(node: Node) -> tuple[str, ...]:
    """The operands of a move whose elements it moves; none for other nodes."""
    if is_fused(node, "Concat"):
        return node.inputs
    if is_fused(node, *_MOVES) or (is_fused(node, "Pool", "GlobalPool") and node.attributes["kind"] == "max"):
        return node.inputs[:1]
    return node.inputs[:1] if is_onnx(node, "Gather") else ()


def _moving(node: Node, grid: Grid) -> Node:
    return replace(node, op=f"Q{node.op}") if node.op in ("Pool", "GlobalPool") else node


def _on_integers(node: Node, grid: Grid) -> dict[str, Any] | None:
    """The attributes of a move of integers, None where it has to stay with floats."""
    attributes = dict(node.attributes)
    if node.op in ("Pool", "GlobalPool"):
        numbers = {"scale": grid.scale, "zero": grid.zero}
        return attributes | {f"{side}_{key}": value for side in "xy" for key, value in numbers.items()}
    if node.op == "Resize" and attributes["mode"] != "nearest":
        return None
    if node.op == "Pad" and attributes["mode"] == "constant":
        value = np.array([attributes["value"]], np.float32)
        integers = to_integers(value, grid)
        if not np.array_equal(to_floats(integers, grid), value):
            return None
        attributes["value"] = int(integers[0])
    return attributes
