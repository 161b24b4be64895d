"""Functions of one quantized value."""

from collections import Counter
from dataclasses import replace

import numpy as np

from secateur.graph.activations import apply_activation
from secateur.graph.ir import Graph, Node
from secateur.graph.quantized.grid import Floats, Grid, to_floats, to_integers
from secateur.graph.quantized.sources import Sources, grid_of
from secateur.graph.rewrite import Draft, fused, is_fused, rewrite_nodes

_ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
_BOUNDS = {"Max": np.maximum, "Min": np.minimum}
_BINARY = {**_ARITHMETIC, **_BOUNDS}


def quantized_activation(graph: Graph) -> Graph:
    """A chain of functions of one number between Dequantize and Quantize as QActivate: a table of all 256 values.

    1. Functions are Activate without slopes, and Add, Sub, Mul, Div, Max and Min with a constant of one element that
       does not widen the shape.
    2. Without any function in between, the table moves integers from one scale to another. A table that changes no
       integer is an Identity.
    3. Nobody else reads the float32 values in between, and none is an output of the graph. The dequantized value itself
       may have other readers.
    """
    sources, producer = Sources(graph), graph.producer()
    uses = Counter(name for node in graph.nodes for name in node.reads())
    uses.update(graph.outputs)

    def rule(draft: Draft, node: Node) -> list[Node] | None:
        if not is_fused(node, "Quantize"):
            return None
        chain: list[Node] = []
        value = node.inputs[0]
        while (found := sources.integers(draft, value)) is None:
            step = producer.get(value)
            source = _argument(draft, step) if step is not None and uses[value] == 1 else None
            if step is None or source is None:
                return None
            chain.append(step)
            value = source
        y = grid_of(draft, node)
        x, grid = found
        every = np.arange(256, dtype=np.uint8).view(grid.dtype)
        results = _table(draft, grid, chain[::-1], y)
        if results.dtype == every.dtype and np.array_equal(results, every):
            return [Node(node.name, "Identity", (x,), node.outputs)]
        last = chain[0] if chain else node
        table = fused("QActivate", last, (x,), node.outputs, table=results)
        names = [name for step in chain[1:] for name in (step.name, *step.absorbed)]
        own = (node.name,) if chain else ()
        return [replace(table, absorbed=(*names, *last.absorbed, *own))]

    return rewrite_nodes(graph, rule)


def _argument(draft: Draft, node: Node) -> str | None:
    """What a function of one number reads, None for any other node."""
    if is_fused(node, "Activate"):
        return node.inputs[0] if len(node.inputs) == 1 else None
    if not is_fused(node, *_BINARY):
        return None
    for x, constant in (node.inputs, node.inputs[::-1]):
        if draft.scalar(constant) is not None and draft.shape(x) == draft.shape(node.outputs[0]):
            return x
    return None


def _table(draft: Draft, x: Grid, chain: list[Node], y: Grid) -> np.ndarray:
    every = np.arange(256, dtype=np.uint8).view(x.dtype)
    values = to_floats(every, x)
    for node in chain:
        values = _applied(draft, node, values)
    return to_integers(values, y)


def _applied(draft: Draft, node: Node, x: Floats) -> Floats:
    with np.errstate(all="ignore"):
        if node.op != "Activate":
            source = _argument(draft, node)
            first, second = (x if name == source else np.float32(draft.scalar(name) or 0.0) for name in node.inputs)
            x = _BINARY[node.op](first, second).astype(np.float32)
        activation = node.attributes["activation"]
        return x if activation is None else apply_activation(activation, x.astype(np.float64)).astype(np.float32)
