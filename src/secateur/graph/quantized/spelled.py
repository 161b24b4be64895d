"""Operators of ONNX Runtime (domain com.microsoft) that quantize inside: which float operator they stand for.

QLinearAdd(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)
    = quantize(Add(dequantize(a, a_scale, a_zero), dequantize(b, b_scale, b_zero)), y_scale, y_zero)
"""

from dataclasses import dataclass

import onnx
from onnx import helper

DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class Spelled:
    """A float operator between numbers.

    op            ONNX operator
    operands      places of value, scale and zero point among the inputs
    output        places of scale and zero point
    attributes    names of those that belong to the float operator
    """

    op: str
    operands: tuple[tuple[int, int, int], ...]
    output: tuple[int, int]
    attributes: tuple[str, ...] = ()


_TWO, _ONE = ((0, 1, 2), (3, 4, 5)), ((0, 1, 2),)
_WINDOW = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
_OPERATORS = {
    "QLinearAdd": Spelled("Add", _TWO, (6, 7)),
    "QLinearMul": Spelled("Mul", _TWO, (6, 7)),
    "QLinearSigmoid": Spelled("Sigmoid", _ONE, (3, 4)),
    "QLinearLeakyRelu": Spelled("LeakyRelu", _ONE, (3, 4), ("alpha",)),
    "QLinearGlobalAveragePool": Spelled("GlobalAveragePool", _ONE, (3, 4)),
    "QLinearAveragePool": Spelled("AveragePool", _ONE, (3, 4), _WINDOW),
    "QGemm": Spelled("Gemm", _TWO, (7, 8), ("alpha", "transA", "transB")),
}


def spelled(op: str, inputs: int) -> Spelled | None:
    """What an operator with so many inputs stands for, None for one that is not listed."""
    if op == "QLinearConcat":
        operands = tuple((place, place + 1, place + 2) for place in range(2, inputs - 2, 3))
        return Spelled("Concat", operands, (0, 1), ("axis",)) if operands else None
    return _OPERATORS.get(op)


def with_floats(node: onnx.NodeProto, types: dict[str, onnx.TypeProto]) -> tuple[onnx.NodeProto, int] | None:
    """The float operator that has the shapes of an operator, and the element type of the quantized output.

    types      of the inputs
    returns    None where the operator is not listed, or has its channels last
    """
    if node.domain == DOMAIN and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return _rounding(node, types)
    found = spelled(node.op_type, len(node.input)) if node.domain == DOMAIN else None
    if found is None or any(a.name == "channels_last" and a.i for a in node.attribute):
        return None
    places = [value for value, _, _ in found.operands]
    if max(places) >= len(node.input) or not all(node.input[place] in types for place in places):
        return None
    names = [node.input[place] for place in places]
    proto = helper.make_node(found.op, names, list(node.output), name=node.name)
    proto.attribute.extend(a for a in node.attribute if a.name in found.attributes)
    quantized = len(node.input) > found.output[0] and node.input[found.output[0]]
    return proto, types[names[0]].tensor_type.elem_type if quantized else onnx.TensorProto.FLOAT


def _rounding(node: onnx.NodeProto, types: dict[str, onnx.TypeProto]) -> tuple[onnx.NodeProto, int] | None:
    """with_floats of ONNX Runtime's own QuantizeLinear and DequantizeLinear, which are older than those of 16 bits."""
    quantize = node.op_type == "QuantizeLinear"
    place = 2 if quantize else 1
    kind = types.get(node.input[place]) if len(node.input) > place else None
    if not node.input or node.input[0] not in types or (kind is None and not quantize):
        return None
    proto = helper.make_node("Identity", [node.input[0]], list(node.output), name=node.name)
    return proto, onnx.TensorProto.UINT8 if kind is None else kind.tensor_type.elem_type


def with_elements(proto: onnx.TypeProto, element: int) -> onnx.TypeProto:
    """The type with other elements."""
    result = onnx.TypeProto()
    result.CopyFrom(proto)
    result.tensor_type.elem_type = element
    return result
