"""The graph that passes rewrite and the engine compiles: nodes over named values, in static single assignment.

A graph is plain immutable data. A value is a name; its type stands in `types`, its array, if it is constant, in
`constants`. A name is written once: by one node, as an input of the graph, or as a constant. An absent optional
input of a node is the empty name, as in ONNX. Shapes are complete: the batch is fixed before a graph is built.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np
import onnx

ABSENT = ""

# Which input of an operator of the normal form is added to its result, before its activation.
RESIDUAL = {"Conv": 3, "Linear": 3, "SqueezeExcite": 5}


@dataclass(frozen=True)
class TensorType:
    """Shape and element type (a numpy dtype name, as "float32") of a value."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def numpy(self) -> np.dtype[Any]:
        """Element type; the ones that numpy itself lacks (bfloat16, float8, int4) come from ml_dtypes."""
        return np.dtype(getattr(ml_dtypes, self.dtype) if hasattr(ml_dtypes, self.dtype) else self.dtype)


@dataclass(frozen=True)
class Activation:
    """A function of one number that a kernel applies before it stores.

    kind          relu, clip, leaky_relu, sigmoid, hard_sigmoid, hard_swish, silu, tanh, gelu, gelu_tanh, elu, ...
    alpha, beta   clip: lowest and highest value; leaky_relu, elu: slope; hard_sigmoid: slope and offset
    """

    kind: str
    alpha: float = 0.0
    beta: float = 0.0

    def __str__(self) -> str:
        return f"clip({self.alpha:g},{self.beta:g})" if self.kind == "clip" else self.kind


@dataclass(frozen=True)
class Node:
    """One operator.

    name         the ONNX node's own name (made up and unique where the file has none); fused nodes keep the name of
                 the convolution, because reports speak of layers
    op           ONNX operator, or one of the fused operators that passes introduce (see passes/__init__.py)
    attributes   plain Python values: int, float, str, tuples of them, numpy arrays, GraphProto for control flow
    domain       "" for ONNX's own operators
    absorbed     names of the nodes that were fused into this one
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    domain: str = ""
    absorbed: tuple[str, ...] = ()

    def input(self, index: int) -> str:
        """Name of the input at an index, ABSENT where the operator was given fewer."""
        return self.inputs[index] if index < len(self.inputs) else ABSENT

    def captured(self) -> tuple[str, ...]:
        """Names that the bodies of a control-flow operator read from outside."""
        bodies = [value for value in self.attributes.values() if isinstance(value, onnx.GraphProto)]
        return tuple(dict.fromkeys(name for body in bodies for name in free_names(body)))

    def reads(self) -> tuple[str, ...]:
        """Every value that the node reads, once."""
        return tuple(dict.fromkeys(name for name in (*self.inputs, *self.captured()) if name))


def free_names(body: onnx.GraphProto) -> Iterator[str]:
    """Names that a control-flow body reads from outside, in its order, with repetitions."""
    own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
    own |= {tensor.values.name for tensor in body.sparse_initializer}
    own |= {output for node in body.node for output in node.output}
    for node in body.node:
        yield from (name for name in node.input if name and name not in own)
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from (name for name in free_names(inner) if name not in own)
    yield from (value.name for value in body.output if value.name not in own)


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can run.

    inputs, outputs   names of values, in the file's order
    types             type of every value whose shape is known; the others depend on data, or are no tensors of numbers
    constants         array of every constant value
    opset             version of ONNX's own operators that the nodes are meant in
    domains           versions of the other operator sets
    loose             what is known of values that are not in `types`
    notes             node -> why it computes with floats in a graph that is quantized
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, np.ndarray]
    opset: int
    domains: Mapping[str, int] = field(default_factory=dict[str, int])
    loose: Mapping[str, onnx.TypeProto] = field(default_factory=dict[str, onnx.TypeProto])
    notes: Mapping[str, str] = field(default_factory=dict[str, str])

    def type(self, name: str) -> TensorType:
        """Type of a value."""
        return self.types[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value."""
        return self.types[name].shape

    def producer(self) -> dict[str, Node]:
        """Value -> the node that writes it."""
        return {output: node for node in self.nodes for output in node.outputs if output}

    def readers(self) -> dict[str, list[Node]]:
        """Value -> the nodes that read it, once per reading node; graph outputs count as no reader."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.reads():
                readers.setdefault(name, []).append(node)
        return readers

    def with_nodes(self, nodes: Iterable[Node], **changes: Any) -> "Graph":
        """The same graph with other nodes; `changes` replaces further fields."""
        return replace(self, nodes=tuple(nodes), **changes)
