"""Constant values of an ONNX graph: stored tensors, and what lies a few operators behind them.

Stored are initializers and the values of Constant operators.

Followed are Identity, Cast, Transpose, Reshape, QuantizeLinear and DequantizeLinear. A dequantized weight is
given as q - zero_point: the scale does not change which weights are zero.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from secateur.errors import ModelError

Array = NDArray[Any]
_LONGEST_CHAIN = 32


@dataclass(frozen=True)
class Constant:
    """A constant value and the name of the tensor that it is stored in.

    bits    of one number as it is used: those of the integers where it is quantized on the way
    """

    root: str
    array: Array
    bits: int = 32


class Constants:
    """Finds the constant behind a name, when there is one."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._sparse = {tensor.values.name for tensor in graph.sparse_initializer}
        self._producers = {output: node for node in graph.node for output in node.output if output}
        for node in graph.node:
            if node.op_type == "Constant" and node.output:
                value = next((a.t for a in node.attribute if a.name == "value" and a.HasField("t")), None)
                if value is not None:
                    self._tensors.setdefault(node.output[0], value)

    def root(self, name: str) -> str | None:
        """The stored tensor that `name` comes from, or None when it depends on the input."""
        chain = self._chain(name)
        return chain[-1] if chain else None

    def find(self, name: str) -> Constant | None:
        """The constant value of `name`, or None when it depends on the input.

        raises    ModelError  a stored tensor that cannot be read
        """
        chain = self._chain(name)
        if not chain:
            return None
        array = self._array(chain[-1])
        bits = self._bits(chain)
        for output in reversed(chain[:-1]):
            node = self._producers[output]
            try:
                array = _FOLLOWED[node.op_type](self, node, array)
            except (ValueError, TypeError, IndexError, np.exceptions.AxisError) as error:
                raise ModelError(f"operator {node.op_type} '{node.name}' does not fit its weight: {error}.") from error
        return Constant(chain[-1], array, bits)

    def _bits(self, chain: list[str]) -> int:
        """Bits of the integers that a QuantizeLinear on the way makes, or of the stored numbers."""
        for output in chain[:-1]:
            node = self._producers[output]
            if node.op_type == "QuantizeLinear":
                zero_point = self._tensors.get(node.input[2]) if len(node.input) > 2 else None
                kind = int(attribute(node, "output_dtype", 0)) or onnx.TensorProto.UINT8
                return bits_of(zero_point.data_type if zero_point is not None else kind)
        return bits_of(self._tensors[chain[-1]].data_type)

    def _chain(self, name: str) -> list[str]:
        """Names from `name` back to a stored tensor; empty when there is none."""
        chain = [name]
        while chain[-1] not in self._tensors:
            if chain[-1] in self._sparse:
                raise ModelError(f"'{chain[-1]}' is a sparse initializer; store it dense to have it counted.")
            node = self._producers.get(chain[-1])
            if node is None or node.op_type not in _FOLLOWED or not node.input or len(chain) > _LONGEST_CHAIN:
                return []
            chain.append(node.input[0])
        return chain

    def _array(self, name: str) -> Array:
        try:
            return numpy_helper.to_array(self._tensors[name])
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"tensor '{name}' cannot be read: {error}.") from error

    def operand(self, node: onnx.NodeProto, index: int) -> Array | None:
        """A stored operand of an operator, None when it is left out. raises ModelError if it is computed."""
        if len(node.input) <= index or not node.input[index]:
            return None
        if node.input[index] not in self._tensors:
            raise ModelError(f"operator {node.op_type} '{node.name}' has an operand that is not constant.")
        return self._array(node.input[index])


def bits_of(data_type: int) -> int:
    """Bits of one number of an ONNX element type."""
    name = onnx.TensorProto.DataType.Name(onnx.TensorProto.DataType.ValueType(data_type))
    if name in ("FLOAT4E2M1", "INT4", "UINT4"):
        return 4
    return {"INT2": 2, "UINT2": 2}.get(name) or 8 * helper.tensor_dtype_to_np_dtype(data_type).itemsize


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of an operator's attribute, or `default`."""
    for candidate in node.attribute:
        if candidate.name == name:
            return helper.get_attribute_value(candidate)
    return default


def _same(constants: Constants, node: onnx.NodeProto, array: Array) -> Array:
    return array


def _transpose(constants: Constants, node: onnx.NodeProto, array: Array) -> Array:
    return np.transpose(array, attribute(node, "perm", None))


def _reshape(constants: Constants, node: onnx.NodeProto, array: Array) -> Array:
    target = constants.operand(node, 1)
    if target is None:
        raise ValueError("no shape is given")
    keep_zero = bool(attribute(node, "allowzero", 0))
    sides = [int(side) for side in target]
    return array.reshape([array.shape[i] if s == 0 and not keep_zero else s for i, s in enumerate(sides)])


def _dequantize(constants: Constants, node: onnx.NodeProto, array: Array) -> Array:
    zero_point = constants.operand(node, 2)
    values = array.astype(np.float32)
    return values if zero_point is None else values - _along(node, zero_point, array)


def _quantize(constants: Constants, node: onnx.NodeProto, array: Array) -> Array:
    scale, zero_point = constants.operand(node, 1), constants.operand(node, 2)
    if scale is None:
        raise ValueError("no scale is given")
    steps = np.rint(array / _along(node, scale, array))
    return steps if zero_point is None else steps + _along(node, zero_point, array)


def _along(node: onnx.NodeProto, operand: Array, array: Array) -> NDArray[np.float32]:
    """A scale or zero point, spread along the axis (or the blocks of an axis) that it belongs to."""
    values = operand.astype(np.float32)
    axis = int(attribute(node, "axis", 1))
    block = int(attribute(node, "block_size", 0))
    if block and values.ndim == array.ndim:
        spread = np.repeat(values, block, axis=axis)
        return spread[tuple(slice(side) for side in array.shape)]
    if values.size == 1:
        return values.reshape(())
    sides = [1] * array.ndim
    sides[axis] = -1
    return values.reshape(sides)


_FOLLOWED: dict[str, Callable[[Constants, onnx.NodeProto, Array], Array]] = {
    "Identity": _same,
    "Cast": _same,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
}
