"""How an operator of an ONNX file uses the weight of a layer.

1. Weights are the operands that the file's census counts (graph/onnx_census.py).
2. A Conv's weight is filter first as it is; a Gemm's or MatMul's is given as (outputs, inputs), whichever way round it
   is stored, with Gemm's alpha in it.
3. The bias is the third operand, or the constant that the only reader of a MatMul adds.
4. A use that cannot be read and written so is refused, with the reason.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from secateur.graph.constants import attribute
from secateur.graph.layer_count import Kind
from secateur.graph.onnx_census import CONVOLUTIONS, PRODUCTS
from secateur.graph.shapes import Shapes
from secateur.posttraining.geometry import Geometry
from secateur.posttraining.onnx_tensors import OnnxTensors, Place


class LeftOutError(Exception):
    """Why a layer cannot be worked on."""


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


def weight_operand(node: onnx.NodeProto, tensors: OnnxTensors) -> int | None:
    """Which operand the census counts as weight, None when it counts none."""
    if len(node.input) < 2:
        return None
    if node.op_type in CONVOLUTIONS:
        return 1
    if node.op_type not in PRODUCTS:
        return None
    left, right = (tensors.root(name) is not None for name in node.input[:2])
    if left == right:
        return None
    operand = 0 if left else 1
    constant = tensors.find(node.input[operand])
    return operand if constant is not None and constant.array.ndim >= 2 else None


def use_of(node: onnx.NodeProto, operand: int, tensors: OnnxTensors, shapes: Shapes) -> Use:
    """The use of a weight by one operator.

    raises    LeftOutError  it cannot be read and written; NotConstantError  the weight is not constant after all
    """
    operators = tensors.operators_behind(node.input[operand])
    if any(operator in ("QuantizeLinear", "DequantizeLinear") for operator in operators):
        raise LeftOutError("its weight is quantized")
    array = tensors.array(node.input[operand])
    if np.dtype(array.dtype).kind != "f" and array.dtype.name != "bfloat16":
        raise LeftOutError(f"its weight is of type {array.dtype}")
    if node.op_type in CONVOLUTIONS:
        geometry = _convolution(node, array.shape, shapes)
        return Use(node, operand, False, 1.0, geometry, _bias_operand(node, array.shape, geometry, tensors))
    if array.ndim > 2 and prod(array.shape[:-2]) != 1:
        raise LeftOutError("its weight is a stack of matrices")
    alpha = float(attribute(node, "alpha", 1.0))
    if not alpha or not np.isfinite(alpha):
        raise LeftOutError(f"its product is multiplied with {alpha}")
    transposed = bool(attribute(node, "transB" if operand else "transA", 0))
    use = Use(node, operand, transposed != (operand == 1), alpha, Geometry("linear"), None)
    use.bias = _linear_bias(use, tensors)
    return use


def weight_of(use: Use, tensors: OnnxTensors) -> NDArray[np.float32]:
    """A copy, filter first (a transposed convolution as it is stored)."""
    array = tensors.array(use.node.input[use.weight]).astype(np.float32)
    if use.geometry.kind != "linear":
        return array
    matrix = array.reshape(array.shape[-2:])
    return np.ascontiguousarray((matrix.T if use.swapped else matrix) * np.float32(use.alpha))


def outputs_of(use: Use, tensors: OnnxTensors) -> int:
    """How many outputs, and with them biases, a layer has."""
    shape = weight_of(use, tensors).shape
    return use.geometry.groups * shape[1] if use.geometry.kind == "conv_transpose" else shape[0]


def _convolution(node: onnx.NodeProto, shape: tuple[int, ...], shapes: Shapes) -> Geometry:
    kernel, groups = shape[2:], int(attribute(node, "group", 1))
    rank = len(kernel)
    stride = tuple(attribute(node, "strides", [1] * rank))
    dilation = tuple(attribute(node, "dilations", [1] * rank))
    pads = list(attribute(node, "pads", [0] * 2 * rank))
    depthwise = groups > 1 and shape[1] == 1
    kind: Kind = "conv_transpose" if node.op_type == "ConvTranspose" else "depthwise" if depthwise else "conv"
    if not rank or not len(stride) == len(dilation) == len(pads) // 2 == rank or min(pads) < 0:
        raise LeftOutError("its strides, dilations or padding do not fit its kernel")
    padding = tuple(zip(pads[:rank], pads[rank:], strict=True))
    automatic = attribute(node, "auto_pad", b"NOTSET").decode("ascii", "replace")
    if automatic.startswith("SAME") and kind != "conv_transpose":
        sides = shapes.of.get(node.input[0], ())[2:]
        if len(sides) != rank:
            raise LeftOutError("the size of its input, which its padding follows, is not known")
        padding = tuple(
            _same(automatic, side, extent, step, rate)
            for side, extent, step, rate in zip(sides, kernel, stride, dilation, strict=True)
        )
    elif automatic == "VALID":
        padding = ((0, 0),) * rank
    return Geometry(kind, kernel, stride, dilation, padding, "zeros", groups)


def _same(automatic: str, side: int, extent: int, step: int, rate: int) -> tuple[int, int]:
    """(begin, end) of padding after which ceil(side / step) windows fit."""
    total = max((-(-side // step) - 1) * step + (extent - 1) * rate + 1 - side, 0)
    less, more = total // 2, total - total // 2
    return (less, more) if automatic == "SAME_UPPER" else (more, less)


def _bias_operand(
    node: onnx.NodeProto, shape: tuple[int, ...], geometry: Geometry, tensors: OnnxTensors
) -> Place | None:
    outputs = geometry.groups * shape[1] if geometry.kind == "conv_transpose" else shape[0]
    if len(node.input) > 2 and node.input[2]:
        constant = tensors.find(node.input[2])
        return (node, 2) if constant is not None and constant.array.shape == (outputs,) else None
    return None


def _linear_bias(use: Use, tensors: OnnxTensors) -> Place | None:
    node = use.node
    if node.op_type == "Gemm":
        given = len(node.input) > 2 and bool(node.input[2])
        return (node, 2) if given and _is_bias(node.input[2], use, tensors) else None
    readers = list(tensors.readers(node.output[0]))
    if len(readers) != 1 or readers[0] is None or readers[0][0].op_type != "Add":
        return None
    adds, operand = readers[0]
    return (adds, 1 - operand) if _is_bias(adds.input[1 - operand], use, tensors) else None


def _is_bias(name: str, use: Use, tensors: OnnxTensors) -> bool:
    """Whether a constant adds one number to each output, the same at all positions."""
    constant = tensors.find(name)
    if constant is None:
        return False
    array, axes = constant.array, (outputs_of(use, tensors),) if use.weight == 1 else (outputs_of(use, tensors), 1)
    return array.size == 1 or (array.size == axes[0] and array.shape[-len(axes) :] == axes)
