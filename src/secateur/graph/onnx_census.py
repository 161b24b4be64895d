"""Counting an ONNX file, whoever made it: weights, zeros and MACs of its convolutions and matrix products.

Counted are Conv, ConvTranspose, Gemm and MatMul whose weight is constant, and their relatives on integers. A quantized
weight that is its zero point is a zero, and scales and zero points are no parameters. A weight that two operators share
counts once, with the positions of both. Linear weights are given as (outputs, inputs), whichever way round
the file stores them, so that the figures equal those of the torch model. Products of two activations are
dynamic MACs. Operators that hold weights in other ways are named in the notes instead of being passed over.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import inliner

from secateur.errors import ModelError
from secateur.graph.census import Census
from secateur.graph.constants import Constant, Constants, attribute
from secateur.graph.layer_count import Kind, LayerCount
from secateur.graph.quantized.operands import INTEGERS, integer_weight, scales_of
from secateur.graph.read import check_model, one_line, read_model
from secateur.graph.shapes import Shapes, infer_shapes
from secateur.graph.table import dims

CONVOLUTIONS = ("Conv", "FusedConv", "ConvTranspose")
PRODUCTS = ("MatMul", "Gemm")
NOT_COUNTED = frozenset(
    (
        "FusedMatMul", "FusedGemm", "DeformConv", "Einsum", "Attention", "MultiHeadAttention",
        "LSTM", "GRU", "RNN", "If", "Loop", "Scan",
    )
)  # fmt: skip


def census_of_onnx(source: Path | str | onnx.ModelProto, *, input_shape: Sequence[int] | None = None) -> Census:
    """Weights, nonzeros, positions and MACs of every convolution and linear layer, for one image.

    input_shape    (channels, height, width) where the file leaves these sides open
    raises         ModelError  a damaged or hostile file, or open sides without `input_shape`
    """
    if isinstance(source, onnx.ModelProto):
        check_model(source)
        return _census(source, input_shape)
    model = read_model(source)
    try:
        return _census(model, input_shape)
    except ModelError as error:
        raise ModelError(f"{source}: {one_line(str(error))}") from error


def _census(model: onnx.ModelProto, input_shape: Sequence[int] | None) -> Census:
    if model.functions:
        model = inliner.inline_local_functions(model)
    count = _Count(model.graph, infer_shapes(model, input_shape))
    for index, node in enumerate(model.graph.node):
        if node.op_type in INTEGERS:
            count.integers(node, index)
        elif node.op_type in CONVOLUTIONS:
            count.convolution(node, index)
        elif node.op_type in PRODUCTS:
            count.product(node, index)
        elif node.op_type in NOT_COUNTED:
            count.passed_over[node.op_type] += 1
    return count.census()


@dataclass
class _Layer:
    """A weight while its uses are added up."""

    name: str
    kind: Kind
    groups: int
    weight: NDArray[Any]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    attributes: str
    bits: int
    macs: int = 0
    calls: int = 0


class _Count:
    """Walks the operators of one graph and adds up."""

    def __init__(self, graph: onnx.GraphProto, shapes: Shapes) -> None:
        self.graph, self.shapes = graph, shapes
        self.constants = Constants(graph)
        self.layers: dict[str, _Layer] = {}
        self.dynamic_macs = 0
        self.passed_over: Counter[str] = Counter()

    def integers(self, node: onnx.NodeProto, index: int) -> None:
        """A convolution or product of integers, whose weight is what differs from its zero point."""
        place = INTEGERS[node.op_type][0]
        self._needs(node, place + 1)
        weight = integer_weight(self.constants, node)
        (self.convolution if "Conv" in node.op_type else self.product)(node, index, place, weight)

    def convolution(self, node: onnx.NodeProto, index: int, place: int = 1, constant: Constant | None = None) -> None:
        """A convolution whose weight stands at a place among the inputs; `constant` if it is known already."""
        self._needs(node, place + 1)
        transposed = node.op_type == "ConvTranspose"
        constant = constant or self.constants.find(node.input[place])
        stored = constant.array.shape if constant else self._shape(node, node.input[place])
        if len(stored) < 3:
            raise ModelError(f"operator {node.op_type} '{node.name}' has a weight of shape {dims(stored)}.")
        inputs, outputs = self._shape(node, node.input[0]), self._shape(node, node.output[0])
        macs = math.prod(inputs if transposed else outputs) * math.prod(stored[1:])
        if constant is None:
            self.dynamic_macs += macs
            return
        groups = int(attribute(node, "group", 1))
        depthwise = groups > 1 and stored[1] == 1
        kind: Kind = "conv_transpose" if transposed else "depthwise" if depthwise else "conv"
        name = layer_name(node, index, constant.root)
        words = _attributes(node, stored)
        layer = _Layer(name, kind, groups, constant.array, inputs[1:], outputs[1:], words, constant.bits)
        self._add(constant.root, layer, macs)

    def product(self, node: onnx.NodeProto, index: int, place: int = 1, known: Constant | None = None) -> None:
        """A matrix product whose second operand stands at a place among the inputs; `known` if it is known already."""
        self._needs(node, place + 1)
        left_name, right_name = node.input[0], node.input[place]
        left, right = self.constants.root(left_name), self.constants.root(right_name)
        if left is not None and right is not None:
            return
        if left is None and right is None:
            self._dynamic_product(node)
            return
        outputs = self._shape(node, node.output[0])
        constant = known or self.constants.find(left_name if right is None else right_name)
        if constant is None or constant.array.ndim < 2:
            return
        weight = constant.array
        swapped = bool(attribute(node, "transB" if right is not None else "transA", 0))
        # As (outputs, inputs): a right operand is stored (inputs, outputs) unless it is swapped.
        if (right is not None) != swapped:
            weight = np.swapaxes(weight, -1, -2)
        if weight.ndim > 2 and math.prod(weight.shape[:-2]) == 1:
            weight = weight.reshape(weight.shape[-2:])
        inputs = self._shape(node, left_name if right is not None else right_name)
        name = layer_name(node, index, constant.root)
        layer = _Layer(name, "linear", 1, weight, inputs[1:], outputs[1:], "", constant.bits)
        self._add(constant.root, layer, math.prod(outputs) * list(weight.shape)[-1])

    def census(self) -> Census:
        notes = tuple(
            f"not counted: {number} operator{'s' * (number > 1)} {operator}"
            for operator, number in sorted(self.passed_over.items())
        )
        parameters, zeros = self._other_parameters()
        counts = tuple(self._finished(layer) for layer in self._named_apart())
        return Census(
            layers=counts,
            input_shape=self.shapes.input_shape,
            parameters=parameters + sum(count.weights for count in counts),
            dynamic_macs=self.dynamic_macs // self.shapes.batch,
            other_zeros=zeros,
            notes=notes,
        )

    def _add(self, root: str, layer: _Layer, macs: int) -> None:
        kept = self.layers.setdefault(root, layer)
        kept.macs += macs
        kept.calls += 1

    def _finished(self, layer: _Layer) -> LayerCount:
        weight = layer.weight
        channels, zero_channels = _channels(weight, layer.kind, layer.groups)
        return LayerCount(
            name=layer.name,
            kind=layer.kind,
            shape=weight.shape,
            groups=layer.groups,
            input_shape=layer.input_shape,
            output_shape=layer.output_shape,
            positions=layer.macs // weight.size // self.shapes.batch if weight.size else 0,
            weights=weight.size,
            nonzeros=int(np.count_nonzero(weight)),
            channels=channels,
            zero_channels=zero_channels,
            attributes=layer.attributes,
            note=f"applied {layer.calls} times; positions are the sum" if layer.calls > 1 else "",
            bits=layer.bits,
        )

    def _other_parameters(self) -> tuple[int, int]:
        """Number and zeros of the float initializers, and of biases of integers, that are parameters of their own.

        No parameters are weights of layers, running statistics, and scales of quantized values.
        """
        statistics = {
            name for node in self.graph.node if node.op_type == "BatchNormalization" for name in node.input[3:5]
        }
        excluded = statistics | {name for node in self.graph.node for name in scales_of(node)}
        biases = {root for node in self.graph.node for root in self._biases(node)}
        number = zeros = 0
        for tensor in self.graph.initializer:
            if tensor.name in self.layers or tensor.name in excluded or not tensor.dims:
                continue
            if tensor.data_type not in _FLOATS and tensor.name not in biases:
                continue
            constant = self.constants.find(tensor.name)
            if constant is not None:
                number += constant.array.size
                zeros += constant.array.size - int(np.count_nonzero(constant.array))
        return number, zeros

    def _biases(self, node: onnx.NodeProto) -> list[str]:
        """Stored integers that are the bias of an operator, dequantized or not."""
        place = INTEGERS[node.op_type][2] if node.op_type in INTEGERS else 2
        if node.op_type not in (*CONVOLUTIONS, "Gemm", *INTEGERS) or place is None or len(node.input) <= place:
            return []
        root = self.constants.root(node.input[place])
        return [] if root is None else [root]

    def _named_apart(self) -> list[_Layer]:
        """Layers in order; a second one of the same name gets a number."""
        names = names_apart(layer.name for layer in self.layers.values())
        for layer, name in zip(self.layers.values(), names, strict=True):
            layer.name = name
        return list(self.layers.values())

    def _dynamic_product(self, node: onnx.NodeProto) -> None:
        left, outputs = self.shapes.of.get(node.input[0]), self.shapes.of.get(node.output[0])
        if not left or outputs is None:
            self.passed_over[f"{node.op_type} of two activations of unknown shape"] += 1
            return
        axis = -2 if len(left) > 1 and attribute(node, "transA", 0) else -1
        self.dynamic_macs += math.prod(outputs) * list(left)[axis]

    def _shape(self, node: onnx.NodeProto, name: str) -> tuple[int, ...]:
        shape = self.shapes.of.get(name)
        if shape is None:
            raise ModelError(
                f"operator {node.op_type} '{node.name}': the shape of '{name}' is not known, so its work "
                f"cannot be counted; export the model with a fixed input shape."
            )
        return shape

    def _needs(self, node: onnx.NodeProto, inputs: int) -> None:
        if len(node.input) < inputs or not node.output:
            raise ModelError(f"operator {node.op_type} '{node.name}' lacks operands; the file is damaged.")


_FLOATS = frozenset(
    (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
)


def _channels(weight: NDArray[Any], kind: Kind, groups: int) -> tuple[int, int]:
    """Output channels, and how many of them have only zero weights."""
    kept = weight != 0
    if kind == "conv_transpose":
        kept = kept.reshape(groups, -1, *kept.shape[1:])
        alive = kept.any(axis=(1, *range(3, kept.ndim)))
    elif kind == "linear":
        alive = kept.any(axis=-1)
    else:
        alive = kept.any(axis=tuple(range(1, kept.ndim)))
    return alive.size, int(np.count_nonzero(~alive))


def _attributes(node: onnx.NodeProto, stored: tuple[int, ...]) -> str:
    kernel = stored[2:]
    parts = [f"k={dims(kernel)}", f"s={dims(attribute(node, 'strides', [1] * len(kernel)))}"]
    automatic = attribute(node, "auto_pad", b"NOTSET").decode("ascii", "replace")
    if automatic in ("", "NOTSET"):
        parts.append(f"p={dims(attribute(node, 'pads', [0] * len(kernel))[: len(kernel)])}")
    else:
        parts.append(f"p={automatic}")
    dilations = attribute(node, "dilations", [1] * len(kernel))
    if any(step != 1 for step in dilations):
        parts.append(f"d={dims(dilations)}")
    groups = int(attribute(node, "group", 1))
    return " ".join([*parts, f"g={groups}"] if groups > 1 else parts)


def layer_name(node: onnx.NodeProto, index: int, root: str) -> str:
    """What the layer is called whose weight is stored as `root`: by its tensor, its operator or its place."""
    if root.endswith(".weight"):
        return root.removesuffix(".weight")
    return _module_path(node.name) or f"{node.op_type}_{index}"


def names_apart(names: Iterable[str]) -> list[str]:
    """The names in order; a second one that is the same gets a number."""
    seen: Counter[str] = Counter()
    apart: list[str] = []
    for name in names:
        seen[name] += 1
        apart.append(f"{name}#{seen[name]}" if seen[name] > 1 else name)
    return apart


def _module_path(name: str) -> str:
    """`/layer1/layer1.0/conv1/Conv`, as torch names operators, is the module layer1.0.conv1."""
    if not name.startswith("/"):
        return name
    scopes: list[str] = []
    for scope in name.split("/")[1:-1]:
        if scopes and scope.startswith(f"{scopes[-1]}."):
            scopes.pop()
        scopes.append(scope)
    return ".".join(scopes) or name
