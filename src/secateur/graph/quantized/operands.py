"""Which inputs of ONNX's operators on integers are weights, biases, scales and zero points."""

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray

from secateur.graph.constants import Constant, Constants, attribute
from secateur.graph.quantized.spelled import Spelled, spelled

# Operators on integers -> places among the inputs of the weight, its zero point, and the bias.
INTEGERS: dict[str, tuple[int, int, int | None]] = {
    "QLinearConv": (3, 5, 8),
    "ConvInteger": (1, 3, None),
    "QLinearMatMul": (3, 5, None),
    "MatMulInteger": (1, 3, None),
    "QGemm": (3, 5, 6),
}
_TWO = ((0, 1, 2), (3, 4, 5))
_OWN = {"QLinearConv": Spelled("Conv", _TWO, (6, 7)), "QLinearMatMul": Spelled("MatMul", _TWO, (6, 7))}


def scales_of(node: onnx.NodeProto) -> Iterable[str]:
    """Scales and zero points among an operator's inputs."""
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return node.input[1:3]
    found = spelled(node.op_type, len(node.input)) or _OWN.get(node.op_type)
    places = [*(place for _, *pair in found.operands for place in pair), *found.output] if found else []
    return [node.input[place] for place in places if place < len(node.input)]


def integer_weight(constants: Constants, node: onnx.NodeProto) -> Constant | None:
    """The weight of an operator on integers minus its zero points, None where it is computed. raises ModelError."""
    place, zero_point, _ = INTEGERS[node.op_type]
    constant = constants.find(node.input[place])
    if constant is None:
        return None
    values: NDArray[np.int32] = constant.array.astype(np.int32)
    origin = constants.operand(node, zero_point)
    if origin is not None and origin.size > 1:
        # One per output: the first side of a kernel or of a swapped matrix, the last one of another matrix.
        first = "Conv" in node.op_type or bool(attribute(node, "transB", 0))
        origin = origin.reshape(-1, *(1,) * (values.ndim - 1)) if first else origin.reshape(-1)
    elif origin is not None:
        origin = origin.reshape(())
    return Constant(constant.root, values if origin is None else values - origin.astype(np.int32), constant.bits)
