"""The constants of an ONNX model, read as its operators get them and replaced for those that are named.

1. Operators of the main graph, its outputs and its inner graphs are readers; only operators of the main graph can be
   named.
2. A tensor that only the named operands read gets its new value in place.
3. A tensor that others read too is left to them, and the named operands get one of their own.
4. What nobody reads after that is taken away, with the operators that computed it.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from secateur.graph.constants import Constant, Constants, attribute

Array = NDArray[Any]
Place = tuple[onnx.NodeProto, int]


class NotConstantError(Exception):
    """A value that is wanted now is computed when the model runs."""


class OnnxTensors:
    """The constants of one model; `model` is changed in place."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._constants = Constants(model.graph)

    def root(self, name: str) -> str | None:
        """The stored tensor that a value comes from, None when it depends on the input."""
        return self._constants.root(name)

    def find(self, name: str) -> Constant | None:
        """The constant value of a name, None when it depends on the input."""
        return self._constants.find(name)

    def array(self, name: str) -> Array:
        """The constant value of a name. raises NotConstantError."""
        constant = self._constants.find(name)
        if constant is None:
            raise NotConstantError(f"'{name}' is not constant")
        return constant.array

    def type_of(self, name: str) -> np.dtype[Any]:
        """The type in which an operator reads a constant, casts on the way included."""
        producers = {output: node for node in self.model.graph.node for output in node.output}
        while name in producers and producers[name].input:
            if producers[name].op_type == "Cast":
                return helper.tensor_dtype_to_np_dtype(int(attribute(producers[name], "to", 1)))
            name = producers[name].input[0]
        return self.array(name).dtype

    def operators_behind(self, name: str) -> list[str]:
        """Kinds of the operators that a constant passes, the nearest first."""
        producers = {output: node for node in self.model.graph.node for output in node.output}
        operators: list[str] = []
        while name in producers and producers[name].input:
            operators.append(producers[name].op_type)
            name = producers[name].input[0]
        return operators

    def readers(self, name: str) -> Iterator[Place | None]:
        """Operators of the main graph that read a value, None for an output or an inner graph that does."""
        graph = self.model.graph
        yield from (None for value in graph.output if value.name == name)
        for node in graph.node:
            yield from ((node, index) for index, operand in enumerate(node.input) if operand == name)
            yield from (None for operand in _read_inside(node) if operand == name)

    def write_(self, places: Sequence[Place], array: Array) -> None:
        """Give operands that read one name another value, and nobody else."""
        name = places[0][0].input[places[0][1]]
        if len(list(self.readers(name))) == len(places):
            for tensor in self.model.graph.initializer:
                if tensor.name == name:
                    tensor.CopyFrom(numpy_helper.from_array(array, name))
                    self._constants = Constants(self.model.graph)
                    return
        fresh = self.add_(f"{name}_own", array)
        for node, operand in places:
            node.input[operand] = fresh
        self._drop_unread(name)
        self._constants = Constants(self.model.graph)

    def add_(self, name: str, array: Array) -> str:
        """Store another tensor. returns its name: `name`, with a number when that is taken."""
        name = self.unused(name)
        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        # Before version 4 every stored tensor had to be an input as well.
        self.model.ir_version = max(self.model.ir_version, 4)
        self._constants = Constants(self.model.graph)
        return name

    def unused(self, name: str) -> str:
        """`name`, with a number when a value or an operator is called so."""
        graph = self.model.graph
        taken = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
        taken.update(name for node in graph.node for name in (*node.output, node.name))
        numbers = itertools.count(2)
        unused = name
        while unused in taken:
            unused = f"{name}.{next(numbers)}"
        return unused

    def _drop_unread(self, name: str) -> None:
        """Take away what computes or stores a value that nobody reads any more."""
        graph = self.model.graph
        if any(True for _ in self.readers(name)) or any(value.name == name for value in graph.input):
            return
        for index, tensor in enumerate(graph.initializer):
            if tensor.name == name:
                del graph.initializer[index]
                return
        for index, node in enumerate(graph.node):
            if list(node.output) == [name]:
                behind = list(node.input)
                del graph.node[index]
                for operand in behind:
                    self._drop_unread(operand)
                return


def _read_inside(node: onnx.NodeProto) -> Iterable[str]:
    """Names that the inner graphs of an operator read."""
    for held in node.attribute:
        for graph in ([held.g] if held.HasField("g") else []) + list(held.graphs):
            for inner in graph.node:
                yield from inner.input
                yield from _read_inside(inner)
            yield from (value.name for value in graph.output)
