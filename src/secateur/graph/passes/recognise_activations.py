"""Activations that a file spells out in arithmetic.

Products are read as a number times factors, in whatever order the file multiplies and divides:

    hard_sigmoid   1/6 clip(x + 3, 0, 6)
    hard_swish     1/6 x clip(x + 3, 0, 6),  x hard_sigmoid(x)
    silu           x sigmoid(x)
    mish           x tanh(softplus(x))
    gelu           1/2 x (1 + erf(x / sqrt 2))
    gelu_tanh      1/2 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
"""

import math
from dataclasses import dataclass
from typing import cast

from secateur.graph.ir import Activation, Graph, Node
from secateur.graph.passes.normal_activations import clip
from secateur.graph.rewrite import Draft, fused, is_fused, rewrite_nodes

# Constants in files are float32, some rounded to few digits.
_TOLERANCE = 1e-4
_DEPTH = 8


def recognise_activations(graph: Graph) -> Graph:
    """Replace the last node of a spelled-out activation by one Activate; the others die if nobody else reads them.

    1. The products above, whatever the order and grouping of their factors.
    2. Max(x, c) and Min(x, c) with a number c are clip, and relu for Max(x, 0).
    3. A clip or relu of a clip or relu is one clip.
    4. What was already fused with another activation is not looked into.
    """
    return rewrite_nodes(graph, _Finder(graph).rule)


@dataclass(frozen=True)
class Product:
    """A number times values."""

    number: float
    factors: tuple[str, ...]


class _Finder:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._producer = graph.producer()

    def rule(self, draft: Draft, node: Node) -> list[Node] | None:
        found = self._bounded(draft, node)
        if found is None and is_fused(node, "Mul", "Div") and node.attributes["activation"] is None:
            found = self._product_form(draft, node)
        if found is None or draft.shape(found[0]) != draft.shape(node.outputs[0]):
            return None
        return [fused("Activate", node, found[:1], activation=found[1])]

    def _bounded(self, draft: Draft, node: Node) -> tuple[str, Activation] | None:
        """Rules 2 and 3."""
        if is_fused(node, "Max", "Min") and node.attributes["activation"] is None:
            for x, operand in (node.inputs, node.inputs[::-1]):
                number = draft.scalar(operand)
                if number is not None and not math.isnan(number):
                    return x, clip(number, math.inf) if node.op == "Max" else clip(-math.inf, number)
        inner = self._activate(node.inputs[0]) if is_fused(node, "Activate") else None
        if inner is not None:
            first, second = (_bounds(cast(Activation, part.attributes["activation"])) for part in (inner, node))
            if first and second:
                low, high = (min(max(bound, second[0]), second[1]) for bound in first)
                return inner.inputs[0], clip(low, high)
        return None

    def _product_form(self, draft: Draft, node: Node) -> tuple[str, Activation] | None:
        product = self._product(draft, node.outputs[0], _DEPTH)
        if len(product.factors) == 1:
            return self._hard_sigmoid(draft, product)
        if len(product.factors) != 2:
            return None
        for x, gate in (product.factors, product.factors[::-1]):
            kind = self._gated(draft, product.number, x, gate)
            if kind:
                return x, Activation(kind)
        return None

    def _hard_sigmoid(self, draft: Draft, product: Product) -> tuple[str, Activation] | None:
        x = self._shifted_clip(draft, product.factors[0])
        return (x, Activation("hard_sigmoid", 1 / 6, 0.5)) if x and _near(product.number, 1 / 6) else None

    def _gated(self, draft: Draft, number: float, x: str, gate: str) -> str | None:
        """The kind of number x gate, None when it is none of ours."""
        if _near(number, 1 / 6) and self._shifted_clip(draft, gate) == x:
            return "hard_swish"
        if _near(number, 0.5):
            return self._gelu(draft, x, gate)
        inner = self._activate(gate) if _near(number, 1) else None
        if inner is None:
            return None
        activation: Activation = inner.attributes["activation"]
        if activation.kind == "tanh":
            deeper = self._activate(inner.inputs[0])
            soft = deeper is not None and deeper.attributes["activation"].kind == "softplus" and deeper.inputs[0] == x
            return "mish" if soft else None
        if inner.inputs[0] != x:
            return None
        if activation.kind == "sigmoid":
            return "silu"
        sixth = activation.kind == "hard_sigmoid" and _near(activation.alpha, 1 / 6) and _near(activation.beta, 0.5)
        return "hard_swish" if sixth else None

    def _shifted_clip(self, draft: Draft, name: str) -> str | None:
        """x where a value is clip(x + 3, 0, 6)."""
        node = self._activate(name)
        if node is None or node.attributes["activation"] != Activation("clip", 0.0, 6.0):
            return None
        return self._plus(draft, node.inputs[0], 3)

    def _plus(self, draft: Draft, name: str, number: float) -> str | None:
        """x where a value is x + number."""
        node = self._producer.get(name)
        if node is None or not is_fused(node, "Add") or node.attributes["activation"] is not None:
            return None
        for x, operand in (node.inputs, node.inputs[::-1]):
            constant = draft.scalar(operand)
            if constant is not None and _near(constant, number):
                return x
        return None

    def _gelu(self, draft: Draft, x: str, gate: str) -> str | None:
        inner = self._activate(self._plus(draft, gate, 1))
        if inner is None:
            return None
        kind = inner.attributes["activation"].kind
        argument = self._product(draft, inner.inputs[0], _DEPTH)
        if kind == "erf":
            return "gelu" if argument.factors == (x,) and _near(argument.number, math.sqrt(0.5)) else None
        if kind != "tanh" or not _near(argument.number, math.sqrt(2 / math.pi)):
            return None
        if len(argument.factors) == 1:
            return "gelu_tanh" if self._x_plus_cube(draft, argument.factors[0], x) else None
        if sorted(argument.factors).count(x) == 1 and len(argument.factors) == 2:
            other = next(name for name in argument.factors if name != x)
            square = self._plus(draft, other, 1)
            return "gelu_tanh" if square and self._is_power(draft, square, x, 2) else None
        return None

    def _x_plus_cube(self, draft: Draft, name: str, x: str) -> bool:
        node = self._producer.get(name)
        if node is None or not is_fused(node, "Add") or node.attributes["activation"] is not None:
            return False
        pairs = (node.inputs, node.inputs[::-1])
        return any(first == x and self._is_power(draft, second, x, 3) for first, second in pairs)

    def _is_power(self, draft: Draft, name: str, x: str, power: int) -> bool:
        """Whether a value is 0.044715 x^power."""
        product = self._product(draft, name, _DEPTH)
        return _near(product.number, 0.044715) and product.factors == (x,) * power

    def _product(self, draft: Draft, name: str, depth: int) -> Product:
        node = self._producer.get(name)
        if node is None or depth == 0 or node.domain == "" or node.attributes.get("activation") is not None:
            return Product(1.0, (name,))
        if node.op == "Pow":
            power = draft.scalar(node.inputs[1])
            if power in (2.0, 3.0):
                base = self._product(draft, node.inputs[0], depth - 1)
                return Product(base.number**power, base.factors * int(power))
        if node.op == "Div":
            divisor = draft.scalar(node.inputs[1])
            if divisor:
                left = self._product(draft, node.inputs[0], depth - 1)
                return Product(left.number / divisor, left.factors)
        if node.op == "Mul":
            sides = [draft.scalar(operand) for operand in node.inputs]
            parts = [
                self._product(draft, operand, depth - 1) if number is None else Product(number, ())
                for operand, number in zip(node.inputs, sides, strict=True)
            ]
            return Product(parts[0].number * parts[1].number, parts[0].factors + parts[1].factors)
        return Product(1.0, (name,))

    def _activate(self, name: str | None) -> Node | None:
        node = self._producer.get(name) if name else None
        return node if node is not None and is_fused(node, "Activate") else None


def _bounds(activation: Activation) -> tuple[float, float] | None:
    if activation.kind == "relu":
        return 0.0, math.inf
    return (activation.alpha, activation.beta) if activation.kind == "clip" else None


def _near(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= _TOLERANCE * abs(wanted)
