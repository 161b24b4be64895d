"""The weights and biases of an ONNX file, read and written where its operators find them.

1. Layers and their names are those of the file's census (graph/onnx_census.py).
2. A Conv's weight is filter first as it is; a Gemm's or MatMul's is given as (outputs, inputs), whichever way round it
   is stored, with Gemm's alpha in it.
3. The bias is the third operand, or the constant that the only reader of a MatMul adds; where there is none, one is
   made.
4. A tensor that others read too is left to them, and the layer gets one of its own.
5. A layer that cannot be read and written so is left out, with the reason.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from secateur.errors import PosttrainingError
from secateur.graph.census import Kind
from secateur.graph.constants import Constants, attribute
from secateur.graph.onnx_census import CONVOLUTIONS, PRODUCTS, layer_name, names_apart
from secateur.graph.shapes import Shapes
from secateur.posttraining.geometry import Geometry
from secateur.sparsity import Layer

Array = NDArray[Any]
Place = tuple[onnx.NodeProto, int]


@dataclass
class Use:
    """One operator that reads a layer's weight.

    weight      which of its operands the weight is; the other of the first two is the layer's input
    swapped     a product's weight is stored as (inputs, outputs)
    alpha       what Gemm multiplies the product with
    geometry    how it walks over its input
    bias        operator and number of the operand that is the bias, None when there is none
    """

    node: onnx.NodeProto
    weight: int
    swapped: bool
    alpha: float
    geometry: Geometry
    bias: Place | None

    @property
    def input(self) -> str:
        """The value that the layer gets."""
        return self.node.input[1 - self.weight]

    @property
    def rows_last(self) -> bool:
        """Whether the features of the layer's input are its last but one axis."""
        if self.geometry.kind != "linear":
            return False
        if self.weight == 1:
            return bool(attribute(self.node, "transA", 0))
        return not attribute(self.node, "transB", 0)


@dataclass
class OnnxLayer:
    """A layer and the operators that use its weight."""

    layer: Layer
    uses: list[Use] = field(default_factory=lambda: list[Use]())


class OnnxLayers:
    """All layers of a file that can be worked on.

    layers      by name
    left_out    name -> why the layer is not among them
    """

    def __init__(self, model: onnx.ModelProto, shapes: Shapes) -> None:
        self._model, self._shapes = model, shapes
        self._constants = Constants(model.graph)
        found: dict[str, list[tuple[int, onnx.NodeProto, int]]] = {}
        for index, node in enumerate(model.graph.node):
            operand = self._weight_of(node)
            root = None if operand is None else self._constants.root(node.input[operand])
            if operand is not None and root is not None:
                found.setdefault(root, []).append((index, node, operand))
        names = names_apart(layer_name(uses[0][1], uses[0][0], root) for root, uses in found.items())
        self.layers: dict[str, OnnxLayer] = {}
        self.left_out: dict[str, str] = {}
        for name, uses in zip(names, found.values(), strict=True):
            try:
                shared = (layer_name(node, index, "") for index, node, _ in uses[1:])
                found_layer = self._layer(name, [(node, operand) for _, node, operand in uses])
                found_layer.layer = replace(found_layer.layer, shared=tuple(s for s in shared if s not in names))
                self.layers[name] = found_layer
            except _LeftOutError as reason:
                self.left_out[name] = str(reason)

    def weight(self, name: str) -> NDArray[np.float32]:
        """A copy, filter first (a transposed convolution as it is stored)."""
        return self._weight(self.layers[name].uses[0])

    def bias(self, use: Use) -> NDArray[np.float32] | None:
        """(C_out,) what is added to the outputs of one use, None when nothing constant is."""
        if use.bias is None:
            return None
        node, operand = use.bias
        array = self._array(node.input[operand]).astype(np.float32)
        beta = attribute(node, "beta", 1.0) if node.op_type == "Gemm" else 1.0
        return np.array(np.broadcast_to(array.reshape(-1), (self._outputs(use),)) * np.float32(beta))

    def store_weight_(self, name: str, weight: NDArray[np.float32]) -> None:
        """Write a weight for all its uses; shaped as `weight` gives it."""
        groups: dict[str, list[Use]] = {}
        for use in self.layers[name].uses:
            groups.setdefault(use.node.input[use.weight], []).append(use)
        for operand, uses in groups.items():
            first = uses[0]
            shape, dtype = self._array(operand).shape, self._type_of(operand)
            array = weight if first.alpha == 1 else weight / np.float32(first.alpha)
            array = (array.T if first.swapped else array).reshape(shape)
            self._write([(use.node, use.weight) for use in uses], array.astype(dtype))

    def store_bias_(self, use: Use, bias: NDArray[np.float32]) -> None:
        """Write the bias of one use, (C_out,)."""
        values = bias.astype(self._type_of(use.node.input[use.weight]))
        if use.geometry.kind == "linear" and use.weight == 0:
            values = values[:, None]
        if use.bias is None:
            use.bias = self._new_bias(use, values)
            return
        node, operand = use.bias
        if node.op_type == "Gemm" and attribute(node, "beta", 1.0) != 1.0:
            kept = [candidate for candidate in node.attribute if candidate.name != "beta"]
            del node.attribute[:]
            node.attribute.extend(kept)
        before = self._array(node.input[operand]).shape
        if len(values.shape) < len(before):  # the sum keeps its number of axes
            values = values.reshape(before) if values.size == prod(before) else _with_axes(values, len(before))
        self._write([(node, operand)], values)

    # ------------------------------------------------------------------------------------------------------- reading

    def _weight_of(self, node: onnx.NodeProto) -> int | None:
        """Which operand the census counts as weight."""
        if len(node.input) < 2:
            return None
        if node.op_type in CONVOLUTIONS:
            return 1
        if node.op_type not in PRODUCTS:
            return None
        left, right = (self._constants.root(name) is not None for name in node.input[:2])
        if left == right:
            return None
        operand = 0 if left else 1
        constant = self._constants.find(node.input[operand])
        return operand if constant is not None and constant.array.ndim >= 2 else None

    def _layer(self, name: str, places: Sequence[Place]) -> OnnxLayer:
        made = [self._use(node, operand) for node, operand in places]
        weights = [self._weight(use) for use in made]
        if any(other.shape != weights[0].shape or not np.array_equal(other, weights[0]) for other in weights[1:]):
            raise _LeftOutError("its tensor is used in different ways, such as both ways round")
        first = made[0].geometry
        return OnnxLayer(Layer(name, first.kind, weights[0].shape, first.groups), made)

    def _use(self, node: onnx.NodeProto, operand: int) -> Use:
        operators = self._operators_behind(node.input[operand])
        if any(operator in ("QuantizeLinear", "DequantizeLinear") for operator in operators):
            raise _LeftOutError("its weight is quantized")
        array = self._array(node.input[operand])
        if np.dtype(array.dtype).kind != "f" and array.dtype.name != "bfloat16":
            raise _LeftOutError(f"its weight is of type {array.dtype}")
        if node.op_type in CONVOLUTIONS:
            geometry = self._convolution(node, array.shape)
            return Use(node, operand, False, 1.0, geometry, self._bias_operand(node, array.shape, geometry))
        if array.ndim > 2 and prod(array.shape[:-2]) != 1:
            raise _LeftOutError("its weight is a stack of matrices")
        alpha = float(attribute(node, "alpha", 1.0))
        if not alpha or not np.isfinite(alpha):
            raise _LeftOutError(f"its product is multiplied with {alpha}")
        transposed = bool(attribute(node, "transB" if operand else "transA", 0))
        use = Use(node, operand, transposed != (operand == 1), alpha, Geometry("linear"), None)
        use.bias = self._linear_bias(use)
        return use

    def _weight(self, use: Use) -> NDArray[np.float32]:
        array = self._array(use.node.input[use.weight]).astype(np.float32)
        if use.geometry.kind != "linear":
            return array
        matrix = array.reshape(array.shape[-2:])
        return np.ascontiguousarray((matrix.T if use.swapped else matrix) * np.float32(use.alpha))

    def _outputs(self, use: Use) -> int:
        shape = self._weight(use).shape
        return use.geometry.groups * shape[1] if use.geometry.kind == "conv_transpose" else shape[0]

    def _convolution(self, node: onnx.NodeProto, shape: tuple[int, ...]) -> Geometry:
        kernel, groups = shape[2:], int(attribute(node, "group", 1))
        rank = len(kernel)
        stride = tuple(attribute(node, "strides", [1] * rank))
        dilation = tuple(attribute(node, "dilations", [1] * rank))
        pads = list(attribute(node, "pads", [0] * 2 * rank))
        depthwise = groups > 1 and shape[1] == 1
        kind: Kind = "conv_transpose" if node.op_type == "ConvTranspose" else "depthwise" if depthwise else "conv"
        if not rank or not len(stride) == len(dilation) == len(pads) // 2 == rank or min(pads) < 0:
            raise _LeftOutError("its strides, dilations or padding do not fit its kernel")
        padding = tuple(zip(pads[:rank], pads[rank:], strict=True))
        automatic = attribute(node, "auto_pad", b"NOTSET").decode("ascii", "replace")
        if automatic.startswith("SAME") and kind != "conv_transpose":
            sides = self._shapes.of.get(node.input[0], ())[2:]
            if len(sides) != rank:
                raise _LeftOutError("the size of its input, which its padding follows, is not known")
            padding = tuple(
                _same(automatic, side, extent, step, rate)
                for side, extent, step, rate in zip(sides, kernel, stride, dilation, strict=True)
            )
        elif automatic == "VALID":
            padding = ((0, 0),) * rank
        return Geometry(kind, kernel, stride, dilation, padding, "zeros", groups)

    def _bias_operand(self, node: onnx.NodeProto, shape: tuple[int, ...], geometry: Geometry) -> Place | None:
        outputs = geometry.groups * shape[1] if geometry.kind == "conv_transpose" else shape[0]
        if len(node.input) > 2 and node.input[2]:
            constant = self._constants.find(node.input[2])
            return (node, 2) if constant is not None and constant.array.shape == (outputs,) else None
        return None

    def _linear_bias(self, use: Use) -> Place | None:
        node = use.node
        if node.op_type == "Gemm":
            given = len(node.input) > 2 and bool(node.input[2])
            return (node, 2) if given and self._is_bias(node.input[2], use) else None
        readers = list(self._readers(node.output[0]))
        if len(readers) != 1 or readers[0] is None or readers[0][0].op_type != "Add":
            return None
        adds, operand = readers[0]
        return (adds, 1 - operand) if self._is_bias(adds.input[1 - operand], use) else None

    def _is_bias(self, name: str, use: Use) -> bool:
        """Whether a constant adds one number to each output, the same at all positions."""
        constant = self._constants.find(name)
        if constant is None:
            return False
        array, axes = constant.array, (self._outputs(use),) if use.weight == 1 else (self._outputs(use), 1)
        return array.size == 1 or (array.size == axes[0] and array.shape[-len(axes) :] == axes)

    # ------------------------------------------------------------------------------------------------------- writing

    def _new_bias(self, use: Use, bias: Array) -> Place:
        node = use.node
        missing = len(node.input) < 3 or not node.input[2]
        if node.op_type != "MatMul" and missing:
            name = self._new_tensor(f"{node.output[0]}_bias", bias)
            del node.input[2:]
            node.input.append(name)
            return node, 2
        if node.op_type == "FusedConv":
            raise PosttrainingError(
                f"operator FusedConv '{node.name}': its bias is computed, so it cannot be replaced."
            )
        if use.geometry.kind != "linear":
            bias = bias.reshape(-1, *(1 for _ in use.geometry.kernel))
        graph, output = self._model.graph, node.output[0]
        product = self._unused(f"{output}_product")
        node.output[0] = product
        addition = helper.make_node(
            "Add", [product, self._new_tensor(f"{output}_bias", bias)], [output], self._unused(f"{node.name}_bias")
        )
        index = next(index for index, other in enumerate(graph.node) if product in other.output)
        graph.node.insert(index + 1, addition)
        return graph.node[index + 1], 1

    def _write(self, places: Sequence[Place], array: Array) -> None:
        """Give operands that read one name another value, and nobody else."""
        name = places[0][0].input[places[0][1]]
        if len(list(self._readers(name))) == len(places):
            for tensor in self._model.graph.initializer:
                if tensor.name == name:
                    tensor.CopyFrom(numpy_helper.from_array(array, name))
                    self._constants = Constants(self._model.graph)
                    return
        fresh = self._new_tensor(f"{name}_own", array)
        for node, operand in places:
            node.input[operand] = fresh
        self._drop_unread(name)
        self._constants = Constants(self._model.graph)

    def _new_tensor(self, name: str, array: Array) -> str:
        name = self._unused(name)
        self._model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        # Before version 4 every stored tensor had to be an input as well.
        self._model.ir_version = max(self._model.ir_version, 4)
        self._constants = Constants(self._model.graph)
        return name

    def _drop_unread(self, name: str) -> None:
        """Take away what computes or stores a value that nobody reads any more."""
        graph = self._model.graph
        if any(True for _ in self._readers(name)) or any(value.name == name for value in graph.input):
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

    def _readers(self, name: str) -> Iterator[Place | None]:
        """Operators of the main graph that read a value, None for an output or an inner graph that does."""
        graph = self._model.graph
        yield from (None for value in graph.output if value.name == name)
        for node in graph.node:
            yield from ((node, index) for index, operand in enumerate(node.input) if operand == name)
            yield from (None for operand in _read_inside(node) if operand == name)

    def _operators_behind(self, name: str) -> list[str]:
        producers = {output: node for node in self._model.graph.node for output in node.output}
        operators: list[str] = []
        while name in producers and producers[name].input:
            operators.append(producers[name].op_type)
            name = producers[name].input[0]
        return operators

    def _type_of(self, name: str) -> np.dtype[Any]:
        """The type in which an operator reads a constant, casts on the way included."""
        producers = {output: node for node in self._model.graph.node for output in node.output}
        while name in producers and producers[name].input:
            if producers[name].op_type == "Cast":
                return helper.tensor_dtype_to_np_dtype(int(attribute(producers[name], "to", 1)))
            name = producers[name].input[0]
        return self._array(name).dtype

    def _array(self, name: str) -> Array:
        constant = self._constants.find(name)
        if constant is None:
            raise _LeftOutError(f"'{name}' is not constant")
        return constant.array

    def _unused(self, name: str) -> str:
        graph = self._model.graph
        taken = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
        taken.update(name for node in graph.node for name in (*node.output, node.name))
        numbers = itertools.count(2)
        unused = name
        while unused in taken:
            unused = f"{name}.{next(numbers)}"
        return unused


class _LeftOutError(Exception):
    """Why a layer cannot be worked on."""


def _with_axes(values: Array, axes: int) -> Array:
    return values.reshape((*(1 for _ in range(axes - values.ndim)), *values.shape))


def _same(automatic: str, side: int, extent: int, step: int, rate: int) -> tuple[int, int]:
    """(begin, end) of padding after which ceil(side / step) windows fit."""
    total = max((-(-side // step) - 1) * step + (extent - 1) * rate + 1 - side, 0)
    less, more = total // 2, total - total // 2
    return (less, more) if automatic == "SAME_UPPER" else (more, less)


def _read_inside(node: onnx.NodeProto) -> Iterable[str]:
    """Names that the inner graphs of an operator read."""
    for held in node.attribute:
        for graph in ([held.g] if held.HasField("g") else []) + list(held.graphs):
            for inner in graph.node:
                yield from inner.input
                yield from _read_inside(inner)
            yield from (value.name for value in graph.output)
