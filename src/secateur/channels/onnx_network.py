"""An ONNX file whose channels are followed: its typed graph, and which stored tensor a constant operand is.

Tensors are known by the names of their initializers, or of the outputs of their Constant operators. An operand may
read a tensor through operators that only order or name its axes (Identity, Cast, Transpose, Squeeze, Unsqueeze).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from secateur.errors import ModelError
from secateur.graph.ir import Graph
from secateur.graph.load import load_graph, modernised
from secateur.graph.read import check_model, one_line, read_model

_VIEWS = ("Identity", "Cast", "Transpose", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class View:
    """A stored tensor as an operand reads it.

    axes    axis of the view -> axis of the tensor; None for an axis of length 1 that was added
    """

    tensor: str
    axes: tuple[int | None, ...]


class OnnxNetwork:
    """A model with its graph.

    model    local functions unfolded, opset 11 or newer: what is written again
    graph    the same with shapes and constants for one image
    stored   name -> shape of every tensor of floating point that the file holds
    """

    def __init__(self, model: onnx.ModelProto, graph: Graph) -> None:
        self.model, self.graph = model, graph
        self.producers = {name: node for node in model.graph.node for name in node.output if name}
        self.stored = {name: graph.constants[name].shape for name in _stored(model) if _is_float(graph, name)}
        self._views: dict[str, View | None] = {}

    def view(self, name: str) -> View | None:
        """The stored tensor that a value is; None where it is computed in any other way."""
        if name not in self._views:
            self._views[name] = self._find(name)
        return self._views[name]

    def _find(self, name: str) -> View | None:
        if name in self.stored:
            return View(name, tuple(range(len(self.stored[name]))))
        chain: list[onnx.NodeProto] = []
        while name not in self.stored:
            node = self.producers.get(name)
            if node is None or node.op_type not in _VIEWS or node.domain not in ("", "ai.onnx"):
                return None
            chain.append(node)
            name = node.input[0]
        axes: list[int | None] = list(range(len(self.stored[name])))
        for node in reversed(chain):
            if node.op_type not in ("Identity", "Cast"):
                moved = self._moved(node, axes)
                if moved is None:
                    return None
                axes = moved
        return View(name, tuple(axes))

    def _moved(self, node: onnx.NodeProto, axes: list[int | None]) -> list[int | None] | None:
        if node.op_type == "Transpose":
            order: Sequence[int] = next((a.ints for a in node.attribute if a.name == "perm"), range(len(axes))[::-1])
            return [axes[i] for i in order]
        given = [a.ints for a in node.attribute if a.name == "axes"]
        numbers = self.graph.constants.get(node.input[1]) if len(node.input) > 1 else None
        listed: list[int] = (
            [*given[0]] if given else [int(i) for i in numbers.reshape(-1)] if numbers is not None else []
        )
        if not listed:
            return None
        if node.op_type == "Squeeze":
            gone = {i % len(axes) for i in listed}
            return [axis for i, axis in enumerate(axes) if i not in gone]
        count = len(axes) + len(listed)
        new = {i % count for i in listed}
        left = iter(axes)
        return [None if i in new else next(left) for i in range(count)]


def read_network(source: Path | str | onnx.ModelProto, input_size: Sequence[int] | None = None) -> OnnxNetwork:
    """The network in an ONNX file, or in a model in memory, which stays as it is.

    input_size    (channels, height, width) of the first input, where the file leaves sides open
    raises        ModelError
    """
    if isinstance(source, onnx.ModelProto):
        check_model(source)
        return _network(source, input_size)
    model = read_model(source)
    try:
        return _network(model, input_size)
    except ModelError as error:
        raise ModelError(f"{source}: {one_line(str(error))}") from error


def _network(model: onnx.ModelProto, input_size: Sequence[int] | None) -> OnnxNetwork:
    modern = onnx.ModelProto()
    modern.CopyFrom(modernised(model))
    first = next((value.name for value in modern.graph.input if value.name not in _stored(modern)), None)
    shapes = {first: (1, *input_size)} if input_size is not None and first is not None else {}
    return OnnxNetwork(modern, load_graph(modern, input_shapes=shapes))


def _stored(model: onnx.ModelProto) -> list[str]:
    initializers = [tensor.name for tensor in model.graph.initializer]
    return initializers + [node.output[0] for node in model.graph.node if constant_tensor(node) is not None]


def constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor that a Constant operator holds."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    return next((a.t for a in node.attribute if a.name == "value" and a.HasField("t")), None)


def _is_float(graph: Graph, name: str) -> bool:
    array: NDArray[Any] | None = graph.constants.get(name)
    return array is not None and (array.dtype.kind == "f" or array.dtype.name == "bfloat16")
