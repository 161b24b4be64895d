"""What passes are written with: a draft of the next graph, and two ways of walking over the nodes."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.graph.ir import ABSENT, Graph, Node, TensorType

DOMAIN = "secateur"
Floats = NDArray[np.float32]


class Draft:
    """The types and constants of the graph that a pass is making; they start as those of the old one."""

    def __init__(self, graph: Graph) -> None:
        self.old = graph
        self.types = dict(graph.types)
        self.constants = dict(graph.constants)
        self._taken = {*graph.types, *graph.constants, *graph.loose, *graph.inputs}
        self._taken.update(output for node in graph.nodes for output in node.outputs)

    def constant(self, hint: str, array: NDArray[Any]) -> str:
        """The name of a new constant; `hint` is what it is called if that is free."""
        name = self._free(hint)
        self.constants[name] = array
        self.types[name] = TensorType(array.shape, array.dtype.name)
        return name

    def value(self, hint: str, shape: Sequence[int], dtype: str = "float32") -> str:
        """The name of a new value that a node will write."""
        name = self._free(hint)
        self.types[name] = TensorType(tuple(shape), dtype)
        return name

    def finish(self, nodes: Iterable[Node]) -> Graph:
        """The new graph."""
        return replace(self.old, nodes=tuple(nodes), types=self.types, constants=self.constants)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value."""
        return self.types[name].shape

    def floats(self, *names: str) -> bool:
        """Whether all these values (absent ones aside) are float32 tensors of known shape."""
        return all(name in self.types and self.types[name].dtype == "float32" for name in names if name)

    def array(self, name: str) -> NDArray[Any] | None:
        """The array of a constant, None for any other value."""
        return self.constants.get(name)

    def scalar(self, name: str) -> float | None:
        """The number that a float32 constant of one element holds."""
        array = self.constants.get(name)
        return float(array.reshape(-1)[0]) if array is not None and array.size == 1 and self.floats(name) else None

    def _free(self, hint: str) -> str:
        name, index = hint, 0
        while name in self._taken:
            index += 1
            name = f"{hint}.{index}"
        self._taken.add(name)
        return name


def fused(op: str, like: Node, inputs: Sequence[str], outputs: Sequence[str] | None = None, **attributes: Any) -> Node:
    """A node of the normal form that takes the place of another one."""
    used = list(inputs)
    while used and used[-1] == ABSENT:
        used.pop()
    return Node(like.name, op, tuple(used), tuple(outputs or like.outputs), attributes, DOMAIN, like.absorbed)


def merged(head: Node, tail: Node, inputs: Sequence[str] | None = None, **attributes: Any) -> Node:
    """`head` with other inputs and attributes, writing what `tail` wrote."""
    node = fused(head.op, head, inputs or head.inputs, tail.outputs, **{**head.attributes, **attributes})
    return replace(node, absorbed=(*head.absorbed, tail.name, *tail.absorbed))


def is_fused(node: Node, *ops: str) -> bool:
    """Whether a node is one of these operators of the normal form."""
    return node.domain == DOMAIN and node.op in ops


def is_onnx(node: Node, *ops: str) -> bool:
    """Whether a node is one of these operators of ONNX."""
    return node.domain == "" and node.op in ops


def axes_of(axes: Iterable[int], rank: int) -> tuple[int, ...] | None:
    """Axes counted from the front, None where one lies outside of the tensor or stands there twice."""
    found = tuple(axis + rank if axis < 0 else axis for axis in axes)
    return found if len(set(found)) == len(found) and all(axis in range(rank) for axis in found) else None


def rewrite_nodes(graph: Graph, rule: Callable[[Draft, Node], Sequence[Node] | None]) -> Graph:
    """Replace every node for which `rule` gives others; the same graph where there is none.

    Nodes with an input or output of unknown type, or without a single element to compute, are not asked about.
    """
    draft = Draft(graph)
    nodes: list[Node] = []
    changed = False
    for node in graph.nodes:
        outputs = [name for name in node.outputs if name]
        known = all(name in draft.types for name in (*node.inputs, *outputs) if name)
        sized = known and all(draft.types[name].size for name in (*node.inputs[:1], *outputs) if name)
        replacement = rule(draft, node) if sized else None
        changed = changed or replacement is not None
        nodes.extend((node,) if replacement is None else replacement)
    return draft.finish(nodes) if changed else graph


def fuse_pairs(graph: Graph, merge: Callable[[Draft, Node, Node], Node | None]) -> Graph:
    """Merge pairs of a node with one output and its only reader; the merged node stands where the reader stood.

    merge    (draft, head, tail) -> the node for both, or None. `tail` reads `head`'s output at one place.
    """
    draft = Draft(graph)
    count = Counter(name for node in graph.nodes for name in node.reads())
    count.update(graph.outputs)
    slots: list[Node | None] = []
    writer: dict[str, int] = {}
    changed = False
    for node in graph.nodes:
        current = node
        heads = sorted((writer[name] for name in set(node.inputs) if name in writer), reverse=True)
        for slot in heads:
            head = slots[slot]
            if head is None or len(head.outputs) != 1 or count[head.outputs[0]] != 1:
                continue
            if node.inputs.count(head.outputs[0]) != 1:
                continue
            both = merge(draft, head, node)
            if both is not None:
                slots[slot], current, changed = None, both, True
                break
        writer.update({name: len(slots) for name in current.outputs if name})
        slots.append(current)
    return draft.finish(node for node in slots if node is not None) if changed else graph
