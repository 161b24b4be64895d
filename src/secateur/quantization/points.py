"""Which values of a float ONNX file become integers, and which of them share their scale.

1. A layer (Conv, ConvTranspose, Gemm, MatMul with constant weights) gets integers. A convolution gives integers; a
   matrix product does where an integer operator reads them, and floats otherwise.
2. Relu, and Clip from 0, directly behind a layer or a sum belong to it: what is rounded is the value behind them, and
   it cannot exceed the clip's bounds.
3. Sums and averages get and give integers where their operands come from integers and an integer operator reads the
   result.
4. A move (Reshape, MaxPool, Slice, ...) has the same integers on both sides, and what Concat joins has the scale of
   the result; so they share one. `share_concat=False` gives every operand of a Concat its own.
5. A chain of functions of one number (hard-swish, x sigmoid(x)) is not rounded inside.
6. What only Sigmoid reads is limited to +-6, what only Tanh reads to +-4: beyond it their result does not change.
7. Outputs of the model are not rounded, unless a convolution gives them.
8. Everything else stays float, with its reason.

Source: ALGORITHMS.md H2 and H9; the sharing rules are what ONNX Runtime's and OpenVINO's integer kernels ask for.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import onnx
import onnx_ir as ir

from secateur.quantization.folds import output_axis
from secateur.quantization.rewriting import constant_of, int_attribute, is_op, only_reader, operand
from secateur.quantization.roles import Roles, given, moved, why_not_integer

_LIMITS = {"Sigmoid": 6.0, "Tanh": 4.0}
# Roles that are quantized or listed among what stays float; moves, functions and shapes follow their neighbours.
_COUNTED = ("layer", "product", "sum", "average", "other")


@dataclass(frozen=True)
class Group:
    """Values that share one scale.

    values      their names, in the order in which they are computed
    observed    those whose numbers make up the range: the others are only moved
    low, high   what the range cannot exceed
    node        name of the node that computes the first of them, empty for an input of the model
    kind        of that node: conv, depthwise, linear, sum, average, ..., or input
    """

    values: tuple[str, ...]
    observed: tuple[str, ...]
    low: float = -np.inf
    high: float = np.inf
    node: str = ""
    kind: str = "input"


@dataclass(frozen=True)
class WeightPoint:
    """A weight that becomes integers.

    name     of the initializer
    axis     of the output channels
    nodes    that use it
    kind     conv, depthwise, conv_transpose or linear
    """

    name: str
    axis: int
    nodes: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class Points:
    """What gets a scale. `floats` are the nodes that stay float, each with its reason."""

    groups: tuple[Group, ...]
    weights: tuple[WeightPoint, ...]
    floats: Mapping[str, str]


def points_of(model: onnx.ModelProto, *, keep_float: Collection[str] = (), share_concat: bool = True) -> Points:
    """The points of a prepared model (prepare.py).

    keep_float    layers that stay float: globs of node names, kinds (`depthwise`, `linear`, ...), `first`, `last`
    """
    graph = ir.from_proto(model).graph
    return _Points(graph, tuple(keep_float), share_concat).points()


def kind_of(node: ir.Node) -> str:
    """What overrides call a node."""
    if is_op(node, "Conv", "ConvTranspose"):
        if is_op(node, "ConvTranspose"):
            return "conv_transpose"
        weight = node.inputs[1]
        inputs = None if weight is None or weight.shape is None else weight.shape[1]
        return "depthwise" if int_attribute(node, "group", 1) > 1 and inputs == 1 else "conv"
    return "linear" if is_op(node, "Gemm", "MatMul") else node.op_type.lower()


def is_meant(pattern: str, node: str, kind: str, ends: Mapping[str, Collection[str]]) -> bool:
    """Whether a pattern is this node's name (as a glob), its kind, or `first` or `last` and it is that."""
    return pattern == kind or node in ends.get(pattern, ()) or fnmatchcase(node, pattern)


def ends_of(graph: ir.Graph) -> dict[str, tuple[str, ...]]:
    """`first` and `last`: the layers with no other in front of them, and with none behind."""
    layers = [node for node in graph if is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul")]
    before: dict[ir.Value, bool] = {}
    for node in graph:
        behind = any(before.get(value, False) for value in given(node)) or node in layers
        before.update(dict.fromkeys(node.outputs, behind))
    first = tuple(node.name or "" for node in layers if not any(before.get(value, False) for value in given(node)))
    reached: set[ir.Node] = set()
    last: list[str] = []
    for node in reversed(list(graph)):
        later = any(user in reached for value in node.outputs for user, _ in value.uses())
        if node in layers and not later:
            last.append(node.name or "")
        if later or node in layers:
            reached.add(node)
    return {"first": first, "last": tuple(reversed(last))}


class _Points:
    def __init__(self, graph: ir.Graph, keep_float: Sequence[str], share_concat: bool) -> None:
        self.graph, self.share_concat = graph, share_concat
        self.roles = Roles(graph)
        self.floats: dict[str, str] = {}
        self._keep(keep_float)
        self.needed: set[ir.Value] = set()
        self.integer: set[ir.Node] = set()
        self._from_integers = self._values_from_integers()
        self._walk()

    def points(self) -> Points:
        weights = self._weights()
        return Points(self._groups(), weights, self.floats)

    def _keep(self, patterns: Sequence[str]) -> None:
        ends = ends_of(self.graph)
        for node in self.graph:
            name = node.name or ""
            for pattern in patterns:
                if self.roles[node] in _COUNTED and is_meant(pattern, name, kind_of(node), ends):
                    self.floats[name] = f"kept by '{pattern}'"
                    break

    def result(self, node: ir.Node) -> ir.Value:
        """The value that a layer or a sum rounds: behind the ReLU that belongs to it (rule 2)."""
        value = node.outputs[0]
        tail = only_reader(value)
        if self.roles[node] in ("layer", "product", "sum") and tail is not None and is_rectifier(tail):
            return tail.outputs[0]
        return value

    def _values_from_integers(self) -> set[ir.Value]:
        """Values that integers could be computed from: rule 3."""
        found = {value for value in self.graph.inputs if value.dtype in (None, ir.DataType.FLOAT)}
        for node in self.graph:
            role = self.roles[node]
            if node.name in self.floats:
                continue
            if role == "layer":
                inside = not is_op(node, "MatMul")
            elif role == "move":
                inside = all(value in found for value in moved(node))
            elif role in ("sum", "average", "function"):
                inside = all(value in found for value in given(node) if constant_of(value) is None)
            else:
                inside = False
            if inside:
                found.update(node.outputs)
        return found

    def _walk(self) -> None:
        """From the last node to the first: who reads integers, and so who gives them."""
        for node in reversed(list(self.graph)):
            role, kept = self.roles[node], node.name in self.floats
            if role in ("layer", "product"):
                if kept:
                    continue
                self.integer.add(node)
                self.needed.update(given(node)[: 1 if role == "layer" else 2])
                if is_op(node, "Conv", "ConvTranspose"):
                    self.needed.add(self.result(node))
            elif role in ("sum", "average"):
                if not kept and self.result(node) in self.needed and node.outputs[0] in self._from_integers:
                    self.integer.add(node)
                    self.needed.update(given(node)[: 2 if role == "sum" else 1])
            elif role == "move" and any(value in self.needed for value in node.outputs):
                self.needed.update(moved(node))
        for value in [value for value in self.needed if constant_of(value) is not None]:
            self.needed.discard(value)
        for node in self.graph:
            role, name = self.roles[node], node.name or ""
            if name in self.floats or node in self.integer or role not in _COUNTED:
                continue
            if role != "other":
                self.floats[name] = f"{node.op_type} whose result no integer operator reads"
            elif is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul") and constant_of(operand(node, 1)) is not None:
                self.floats[name] = why_not_integer(node) or "it has no integer form"
            elif not _is_index(node):
                self.floats[name] = f"{node.op_type} is computed in float"

    def _groups(self) -> tuple[Group, ...]:
        order = [*self.graph.inputs, *(value for node in self.graph for value in node.outputs)]
        leader = {value: value for value in order}

        def find(value: ir.Value) -> ir.Value:
            while leader[value] is not value:
                value = leader[value]
            return value

        joined: set[ir.Value] = set()
        for node in self.graph:
            if self.roles[node] != "move" or (is_op(node, "Concat") and not self.share_concat):
                continue
            for value in (value for value in node.outputs if value in self.needed):
                joined.add(value)
                for source in (source for source in moved(node) if source in self.needed):
                    leader[find(value)] = find(source)
        members: dict[ir.Value, list[ir.Value]] = {}
        for value in order:
            if value in self.needed:
                members.setdefault(find(value), []).append(value)
        return tuple(self._group(values, joined) for values in members.values())

    def _group(self, values: Sequence[ir.Value], joined: set[ir.Value]) -> Group:
        observed = [value for value in values if value not in joined]
        bounds = [self._bounds(value) for value in observed]
        limits = [_LIMITS.get(user.op_type, np.inf) for value in values for user, _ in value.uses()]
        read_outside = any(value.is_graph_output() for value in values)
        limit = np.inf if read_outside else max(limits, default=np.inf)
        producer = observed[0].producer()
        if producer is not None and is_rectifier(producer) and producer.inputs[0] is not None:
            producer = producer.inputs[0].producer() or producer
        return Group(
            tuple(value.name or "" for value in values),
            tuple(value.name or "" for value in observed),
            max(min(low for low, _ in bounds), -limit),
            min(max(high for _, high in bounds), limit),
            "" if producer is None else producer.name or "",
            "input" if producer is None else kind_of(producer),
        )

    def _bounds(self, value: ir.Value) -> tuple[float, float]:
        producer = value.producer()
        if is_op(producer, "Clip") and producer is not None:
            low, high = (constant_of(operand(producer, index)) for index in (1, 2))
            return (
                -np.inf if low is None else min(float(low.reshape(())), 0.0),
                np.inf if high is None else max(float(high.reshape(())), 0.0),
            )
        return (0.0 if is_op(producer, "Relu", "Sigmoid") else -np.inf), np.inf

    def _weights(self) -> tuple[WeightPoint, ...]:
        users: dict[str, list[ir.Node]] = {}
        for node in self.graph:
            if node in self.integer and self.roles[node] == "layer" and node.inputs[1] is not None:
                users.setdefault(node.inputs[1].name or "", []).append(node)
        found: list[WeightPoint] = []
        for name, nodes in users.items():
            axis = output_axis(nodes[0])
            found.append(WeightPoint(name, axis, tuple(node.name or "" for node in nodes), kind_of(nodes[0])))
        return tuple(found)


def is_rectifier(node: ir.Node) -> bool:
    """Relu, or Clip between 0 and a constant: what an unsigned range does by itself."""
    if is_op(node, "Relu"):
        return True
    if not is_op(node, "Clip"):
        return False
    low = constant_of(operand(node, 1))
    high = constant_of(operand(node, 2))
    return low is not None and float(low.reshape(())) == 0.0 and (operand(node, 2) is None or high is not None)


def _is_index(node: ir.Node) -> bool:
    """Whether what a node computes are whole numbers, such as shapes."""
    dtype = node.outputs[0].dtype
    return dtype is not None and not dtype.is_floating_point()
