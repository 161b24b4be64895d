"""The same thing computed twice."""

from collections.abc import Hashable
from dataclasses import replace

import numpy as np
import onnx

from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import DOMAIN

_RANDOM = frozenset(["Bernoulli", "Dropout", "Multinomial", "RandomNormalLike", "RandomUniformLike"])


def common_subexpressions(graph: Graph) -> Graph:
    """Let the readers of a node read an earlier node that computes the same; remove_dead removes the later one.

    1. The nodes have the same operator, inputs and attributes, are not random, and hold no graph of their own.
    2. Outputs of the graph, and what control-flow operators read, are left alone.
    """
    fixed = {name for node in graph.nodes for name in node.captured()} | set(graph.outputs)
    seen: dict[Hashable, Node] = {}
    names: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(names.get(name, name) for name in node.inputs)
        current = replace(node, inputs=inputs) if inputs != node.inputs else node
        nodes.append(current)
        key = _key(current)
        if key is None:
            continue
        first = seen.setdefault(key, current)
        if first is not current and not any(name in fixed for name in current.outputs):
            names.update(zip(current.outputs, first.outputs, strict=True))
    changed = any(new is not old for new, old in zip(nodes, graph.nodes, strict=True))
    return graph.with_nodes(nodes) if changed else graph


def _key(node: Node) -> Hashable | None:
    if node.domain not in ("", DOMAIN) or node.op in _RANDOM or not all(node.outputs) or not node.inputs:
        return None
    values = node.attributes.values()
    if any(isinstance(value, np.ndarray | onnx.GraphProto | onnx.TypeProto) for value in values):
        return None
    attributes = tuple(sorted((key, repr(value)) for key, value in node.attributes.items()))
    return (node.domain, node.op, node.inputs, len(node.outputs), attributes)
