"""Squeeze-and-excitation: every channel times a gate that the means of all channels decide.

    y = x gate(w2 hidden(w1 mean(x) + b1) + b2)        w1 (hidden channels, channels),  w2 (channels, hidden channels)

Source: Hu, Shen, Sun 2018.
"""

from collections import Counter
from dataclasses import dataclass, replace

from secateur.graph.ir import ABSENT, Activation, Graph, Node
from secateur.graph.rewrite import Draft, fused, is_fused, rewrite_nodes

GATES = ("sigmoid", "hard_sigmoid", "clip")


def recognise_squeeze_excite(graph: Graph) -> Graph:
    """Replace the Mul of a squeeze-and-excitation by SqueezeExcite; what computed its gate dies.

    1. One factor is x (n, c, h, w), the other one a number for each of its channels.
    2. The numbers come out of two products with constants, Linear or 1x1 Conv of maps of one pixel, and out of the
       means of x: a GlobalPool, a Pool or a ReduceMean over whole maps.
    3. Each product may have an activation, its own or an Activate behind it, but no residual and no slope; the second
       one must have: sigmoid, hard_sigmoid or clip.
    4. In between may be Reshapes, which do not change the order of elements.
    5. Nothing in between has another reader or is an output of the graph.
    """
    return rewrite_nodes(graph, _Finder(graph).rule)


@dataclass(frozen=True)
class _Product:
    """A product of a row for each image: its node, matrix (outputs, inputs) and bias by name, what it multiplies."""

    node: Node
    matrix: str
    bias: str
    activation: Activation | None
    source: str
    passed: tuple[Node, ...]


class _Finder:
    def __init__(self, graph: Graph) -> None:
        self._producer = graph.producer()
        self._uses = Counter(name for node in graph.nodes for name in node.reads())
        self._uses.update(graph.outputs)

    def rule(self, draft: Draft, node: Node) -> list[Node] | None:
        if not is_fused(node, "Mul"):
            return None
        for x, gate in (node.inputs, node.inputs[::-1]):
            sides = draft.shape(x)
            if len(sides) == 4 and draft.shape(gate) == (*sides[:2], 1, 1) and draft.shape(node.outputs[0]) == sides:
                found = self._squeeze_excite(draft, node, x, gate)
                if found is not None:
                    return [found]
        return None

    def _squeeze_excite(self, draft: Draft, node: Node, x: str, gate: str) -> Node | None:
        channels = draft.shape(x)[1]
        second = self._product(draft, gate, channels)
        if second is None or second.activation is None or second.activation.kind not in GATES:
            return None
        first = self._product(draft, second.source, draft.shape(second.matrix)[1])
        if first is None or draft.shape(first.matrix)[1] != channels:
            return None
        mean = self._mean(draft, first.source, x)
        if mean is None:
            return None
        inputs = (x, first.matrix, first.bias, second.matrix, second.bias)
        whole = fused(
            *("SqueezeExcite", node, inputs),
            hidden=first.activation,
            gate=second.activation,
            activation=node.attributes["activation"],
            layers=(first.node.name, second.node.name),
        )
        parts = (*mean, *first.passed, *second.passed)
        names = [name for part in parts for name in (part.name, *part.absorbed)]
        return replace(whole, absorbed=(*names, *node.absorbed))

    def _product(self, draft: Draft, value: str, outputs: int) -> _Product | None:
        """The product that a value comes from (rules 3 to 5)."""
        node, passed = self._behind(value)
        activation: Activation | None = None
        if node is not None and is_fused(node, "Activate") and len(node.inputs) == 1:
            activation = node.attributes["activation"]
            passed = (node, *passed)
            node, more = self._behind(node.inputs[0])
            passed = (*more, *passed)
        if node is None or not is_fused(node, "Linear", "Conv") or node.input(3) or node.input(4):
            return None
        own: Activation | None = node.attributes["activation"]
        if own is not None and activation is not None:
            return None
        weight, bias = node.inputs[1], node.input(2)
        sides = draft.shape(weight)
        if sides[0] != outputs:
            return None
        if node.op == "Conv":
            if draft.shape(node.inputs[0])[2:] != (1, 1) or sides[2:] != (1, 1) or node.attributes["group"] != 1:
                return None
            if any(node.attributes["pads"]):
                return None
            weight = draft.constant(f"{weight}.matrix", draft.constants[weight].reshape(sides[:2]))
        if bias and draft.shape(bias) != (outputs,):
            return None
        return _Product(node, weight, bias or ABSENT, own or activation, node.inputs[0], (node, *passed))

    def _mean(self, draft: Draft, value: str, x: str) -> tuple[Node, ...] | None:
        """The nodes from x to its means, None where the value is anything else (rule 2)."""
        node, passed = self._behind(value)
        if node is None or not _is_mean(draft, node):
            return None
        source, before = node.inputs[0], ()
        flat = self._producer.get(source)
        if source != x and flat is not None and is_fused(flat, "Reshape") and self._uses[source] == 1:
            source, before = flat.inputs[0], (flat,)
        if source != x or draft.shape(node.inputs[0])[:2] != draft.shape(x)[:2]:
            return None
        return (*before, node, *passed)

    def _behind(self, value: str) -> tuple[Node | None, tuple[Node, ...]]:
        """The node that a value with one reader comes from, and the Reshapes that it has gone through since."""
        passed: tuple[Node, ...] = ()
        while self._uses[value] == 1 and (node := self._producer.get(value)) is not None:
            if not is_fused(node, "Reshape"):
                return node, passed
            passed = (node, *passed)
            value = node.inputs[0]
        return None, passed


def _is_mean(draft: Draft, node: Node) -> bool:
    """Whether a node computes the means over everything behind the second axis."""
    sides = draft.shape(node.inputs[0])
    if is_fused(node, "GlobalPool"):
        return node.attributes["kind"] == "average"
    if is_fused(node, "Pool"):
        whole = tuple(node.attributes["kernel"]) == sides[2:] and not any(node.attributes["pads"])
        return whole and node.attributes["kind"] == "average"
    return is_fused(node, "ReduceMean") and tuple(node.attributes["axes"]) == tuple(range(2, len(sides)))
