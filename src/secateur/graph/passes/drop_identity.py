"""Nodes that give back what they get."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from secateur.graph.ir import Activation, Graph, Node, TensorType
from secateur.graph.rewrite import DOMAIN, Draft, fused, is_fused, is_onnx, rewrite_nodes


def drop_identity(graph: Graph) -> Graph:
    """Remove nodes that compute nothing; who read their output reads their input.

    1. Identity, and Dropout outside of training whose mask nobody reads.
    2. A Cast to the type that the value has; Expand and Tile to the shape that it has.
    3. A Reshape, Slice, Pad, Concat, Split, Resize or Pool to the same tensor, and a Transpose that moves nothing.
    4. x + 0, x - 0, 1 x, x / 1 and x^1; an activation behind it becomes an Activate. A clip without bounds.
    5. An output of the graph keeps its name: the node before it writes it. Where that cannot be, because the value is
       an input, a constant or an output of its own, the node stays.
    6. What a control-flow operator reads from outside keeps its name.
    """
    graph = rewrite_nodes(graph, _without_neutral_operand)
    fixed = {name for node in graph.nodes for name in node.captured()}
    written = {output for node in graph.nodes for output in node.outputs}
    read = {name for node in graph.nodes for name in node.reads()} | set(graph.outputs)
    names: dict[str, str] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        if not _is_identity(graph, node) or any(name in read for name in node.outputs[1:]):
            kept.append(node)
            continue
        source, out = names.get(node.inputs[0], node.inputs[0]), node.outputs[0]
        if out in fixed or graph.types.get(source) != graph.types.get(out) or source not in graph.types:
            kept.append(node)
        elif out not in graph.outputs:
            names[out] = source
        elif source in written and source not in graph.outputs and source not in fixed and source not in names.values():
            names = {name: out if target == source else target for name, target in names.items()}
            names[source] = out
        else:
            kept.append(node)
    if len(kept) == len(graph.nodes):
        return graph
    return graph.with_nodes(_renamed(node, names) for node in kept)


def _renamed(node: Node, names: dict[str, str]) -> Node:
    if not any(name in names for name in (*node.inputs, *node.outputs)):
        return node
    inputs = tuple(names.get(name, name) for name in node.inputs)
    return replace(node, inputs=inputs, outputs=tuple(names.get(name, name) for name in node.outputs))


def _is_identity(graph: Graph, node: Node) -> bool:
    if not node.inputs or not node.inputs[0]:
        return False
    if is_onnx(node, "Identity"):
        return True
    x, y = graph.types.get(node.inputs[0]), graph.types.get(node.outputs[0])
    if x is None or x != y:
        return False
    if node.domain == "":
        if node.op == "Dropout":
            training = graph.constants.get(node.input(2))
            return not node.input(2) or (training is not None and not training.any())
        return node.op in ("Cast", "Expand", "Tile")
    test = _SAME_SHAPE_IS_SAME.get(node.op) if node.domain == DOMAIN else None
    return test is not None and test(node, x)


def _always(node: Node, x: TensorType) -> bool:
    return True


def _one_operand(node: Node, x: TensorType) -> bool:
    return len(node.inputs) == 1


def _transpose(node: Node, x: TensorType) -> bool:
    # Sides of one may change places: the elements stay where they are.
    moved = [axis for axis in node.attributes["perm"] if x.shape[axis] != 1]
    return moved == sorted(moved)


def _slice(node: Node, x: TensorType) -> bool:
    return all(step > 0 for step in node.attributes["steps"])


def _resize(node: Node, x: TensorType) -> bool:
    return (
        all(scale == 1 for scale in node.attributes["scales"])
        and node.attributes["coordinate"] != "tf_half_pixel_for_nn"
    )


def _pool(node: Node, x: TensorType) -> bool:
    return node.attributes["kernel"] == (1, 1) and node.attributes["strides"] == (1, 1)


def _unbounded(node: Node, x: TensorType) -> bool:
    return node.attributes["activation"] == Activation("clip", -math.inf, math.inf)


_SAME_SHAPE_IS_SAME: dict[str, Callable[[Node, TensorType], bool]] = {
    "Activate": _unbounded,
    "Concat": _one_operand,
    "GlobalPool": _always,
    "Pad": _always,
    "Pool": _pool,
    "ReduceMean": _always,
    "Reshape": _always,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _always,
    "Transpose": _transpose,
}

_NEUTRAL = {"Add": 0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0, "Pow": 1.0}


def _without_neutral_operand(draft: Draft, node: Node) -> list[Node] | None:
    """Rule 4."""
    if not is_fused(node, *_NEUTRAL):
        return None
    pairs = [node.inputs] if node.op in ("Sub", "Div", "Pow") else [node.inputs, node.inputs[::-1]]
    for value, operand in pairs:
        array = draft.array(operand)
        if array is None or not np.all(array == _NEUTRAL[node.op]):
            continue
        if draft.shape(value) != draft.shape(node.outputs[0]):
            continue
        if node.attributes["activation"] is not None:
            return [fused("Activate", node, (value,), activation=node.attributes["activation"])]
        return [Node(node.name, "Identity", (value,), node.outputs, absorbed=node.absorbed)]
    return None
