"""Layer normalization that a file spells out.

d = x - mean(x),    y = d / sqrt(mean(d^2) + epsilon) scale + bias
"""

import numpy as np

from secateur.graph.ir import Graph, Node
from secateur.graph.rewrite import Draft, fuse_pairs, fused, is_fused, merged, rewrite_nodes


def recognise_normalization(graph: Graph) -> Graph:
    """Replace the division of a spelled-out layer normalization by a LayerNormalization node, and fold what follows.

    1. Means run over the last axes, the same ones twice, and keep them as sides of one.
    2. The square is d d or d^2; the root is divided by, or its reciprocal multiplied.
    3. A constant factor behind it becomes the scale, a constant summand the bias, if it has the normalized sides and
       nobody else reads the value in between.
    """
    return fuse_pairs(rewrite_nodes(graph, _Finder(graph).rule), _with_affine)


class _Finder:
    def __init__(self, graph: Graph) -> None:
        self._producer = graph.producer()

    def rule(self, draft: Draft, node: Node) -> list[Node] | None:
        found = self._deviation_and_root(node)
        if found is None:
            return None
        deviation, root = found
        total = self._made_by(root.inputs[0], "Add")
        centred = self._made_by(deviation, "Sub")
        if total is None or centred is None:
            return None
        pairs = (total.inputs, total.inputs[::-1])
        pair = next(((v, e) for v, e in pairs if draft.scalar(e) is not None and draft.array(v) is None), None)
        variance = self._mean(pair[0]) if pair else None
        mean = self._mean(centred.inputs[1])
        x = centred.inputs[0]
        if pair is None or variance is None or mean is None or mean[0] != x:
            return None
        if not self._is_square(draft, variance[0], deviation):
            return None
        shape = draft.shape(x)
        last = tuple(range(len(shape) - len(mean[1]), len(shape)))
        if mean[1] != last or variance[1] != last:
            return None
        ones = draft.constant(f"{node.name}.scale", np.ones(shape[last[0] :], np.float32))
        return [fused("LayerNormalization", node, (x, ones), axis=last[0], epsilon=draft.scalar(pair[1]))]

    def _deviation_and_root(self, node: Node) -> tuple[str, Node] | None:
        """What is divided, and the square root that it is divided by."""
        if not is_fused(node, "Div", "Mul") or node.attributes["activation"] is not None:
            return None
        if node.op == "Div":
            root = self._activate(node.inputs[1], "sqrt")
            return (node.inputs[0], root) if root else None
        for value, factor in (node.inputs, node.inputs[::-1]):
            inverse = self._activate(factor, "reciprocal")
            root = self._activate(inverse.inputs[0], "sqrt") if inverse else None
            if root:
                return value, root
        return None

    def _is_square(self, draft: Draft, name: str, base: str) -> bool:
        if node := self._made_by(name, "Mul"):
            return node.inputs == (base, base)
        node = self._made_by(name, "Pow")
        return node is not None and node.inputs[0] == base and draft.scalar(node.inputs[1]) == 2

    def _mean(self, name: str) -> tuple[str, tuple[int, ...]] | None:
        """What a value is the mean of, and over which axes, if they are kept."""
        if node := self._made_by(name, "ReduceMean"):
            return (node.inputs[0], tuple(node.attributes["axes"])) if node.attributes["keepdims"] else None
        node = self._made_by(name, "GlobalPool")
        return (node.inputs[0], (2, 3)) if node is not None and node.attributes["kind"] == "average" else None

    def _made_by(self, name: str, op: str) -> Node | None:
        node = self._producer.get(name)
        found = node is not None and is_fused(node, op) and node.attributes.get("activation") is None
        return node if found else None

    def _activate(self, name: str, kind: str) -> Node | None:
        node = self._producer.get(name)
        found = node is not None and is_fused(node, "Activate") and node.attributes["activation"].kind == kind
        return node if found else None


def _with_affine(draft: Draft, head: Node, tail: Node) -> Node | None:
    """Rule 3."""
    if not is_fused(head, "LayerNormalization") or not is_fused(tail, "Mul", "Add"):
        return None
    if tail.attributes["activation"] is not None or (head.input(2) and tail.op == "Mul"):
        return None
    operand = draft.array(next(name for name in tail.inputs if name != head.outputs[0]))
    shape = draft.shape(head.outputs[0])
    sides = shape[int(head.attributes["axis"]) :]
    if operand is None or operand.ndim > len(sides) or draft.shape(tail.outputs[0]) != shape:
        return None
    try:
        spread = np.ascontiguousarray(np.broadcast_to(operand, sides))
    except ValueError:
        return None
    x, scale, bias = head.inputs[0], head.inputs[1], head.input(2)
    if tail.op == "Mul":
        product = draft.constants[scale] * spread
        return merged(head, tail, (x, draft.constant(f"{head.name}.scale", product)))
    total = spread if not bias else draft.constants[bias] + spread
    return merged(head, tail, (x, scale, draft.constant(f"{head.name}.bias", total)))
