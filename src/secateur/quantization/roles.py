"""What an operator of a float ONNX file is to integers.

layer       a product with constant weights, which runtimes have integer kernels for
product     a product of two computed matrices
sum         Add or Mul of two computed values
average     a mean over positions: integers in, other integers out
move        its outputs hold numbers of its inputs and zeros, nothing else: the integers of both are the same
function    a function of one number at a time; chains of them are one table of 256 entries
shape       asks for nothing but the shape
other       computed in float
"""

from typing import Literal

import numpy as np
import onnx_ir as ir

from secateur.quantization.folds import outputs_of
from secateur.quantization.rewriting import (
    constant_of,
    float_attribute,
    int_attribute,
    is_op,
    operand,
)

Role = Literal["layer", "product", "sum", "average", "move", "function", "shape", "other"]

# Operators whose first input's numbers come out again.
_MOVES = frozenset(
    (
        "Concat", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GlobalMaxPool", "Identity", "MaxPool",
        "Pad", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    )
)  # fmt: skip
FUNCTIONS = frozenset(
    (
        "Abs", "BatchNormalization", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish",
        "LeakyRelu", "Log", "Mish", "Neg", "PRelu", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign",
        "Sqrt", "Tanh", "ThresholdedRelu",
    )
)  # fmt: skip
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_AVERAGES = ("AveragePool", "GlobalAveragePool")
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min")


def role_of(node: ir.Node) -> Role:
    """The role of a node, looked at alone; `Roles` knows which sums are functions of one value."""
    if is_op(node, "Shape", "Size"):
        return "shape"
    if is_op(node, *_LAYERS) and operand(node, 1) is not None:
        if constant_of(node.inputs[1]) is not None:
            return "layer" if why_not_integer(node) is None else "other"
        return "product" if is_op(node, "MatMul") and constant_of(node.inputs[0]) is None else "other"
    if is_op(node, *_AVERAGES):
        return "average"
    if is_op(node, *_MOVES):
        return "move" if _only_moves(node) else "other"
    if is_op(node, *FUNCTIONS):
        return "function" if all(constant_of(value) is not None for value in given(node)[1:]) else "other"
    if is_op(node, *_ARITHMETIC) and len(node.inputs) == 2:
        computed = [value for value in given(node) if constant_of(value) is None]
        if len(computed) < 2:
            return "function"
        return "sum" if is_op(node, "Add", "Mul") else "other"
    return "other"


def why_not_integer(node: ir.Node) -> str | None:
    """Why a layer with constant weights has no integer form; None where it has one."""
    weight, bias = constant_of(node.inputs[1]), constant_of(operand(node, 2))
    assert weight is not None
    if weight.dtype != np.float32:
        return f"its weight is {weight.dtype}, not float32"
    if not weight.size or not np.isfinite(weight).all():
        return "its weight is empty, or holds NaN or infinity"
    if is_op(node, "MatMul"):
        return None if weight.ndim == 2 else "its weight is a stack of matrices"
    if is_op(node, "Gemm"):
        if int_attribute(node, "transA", 0):
            return "its input is transposed"
        if float_attribute(node, "alpha", 1.0) != 1.0 or float_attribute(node, "beta", 1.0) != 1.0:
            return "its product or its bias has a factor"
    if operand(node, 2) is not None and (bias is None or bias.shape != (outputs_of(node, weight.shape),)):
        return "its bias is computed, or is not one number for each output"
    if bias is not None and not np.isfinite(bias).all():
        return "its bias holds NaN or infinity"
    return None


def given(node: ir.Node) -> list[ir.Value]:
    """The operands that are not left out."""
    return [value for value in node.inputs if value is not None]


def moved(node: ir.Node) -> list[ir.Value]:
    """The operands of a move whose numbers come out."""
    return given(node) if is_op(node, "Concat") else given(node)[:1]


def _only_moves(node: ir.Node) -> bool:
    if is_op(node, "Pad"):
        mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"
        filling = constant_of(operand(node, 2))
        nothing = operand(node, 2) is None or (filling is not None and not filling.any())
        return mode != "constant" or nothing
    if is_op(node, "Resize"):
        mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "nearest"
        return mode == "nearest"
    if is_op(node, "MaxPool"):
        return len(node.outputs) < 2 or not node.outputs[1].uses()
    return True


class Roles:
    """The roles of all nodes of a graph.

    source    value -> the value that it is a function of, number by number: itself where it is none
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._roles: dict[ir.Node, Role] = {}
        self.source: dict[ir.Value, ir.Value] = {}
        for node in graph:
            role = role_of(node)
            computed = [value for value in given(node) if constant_of(value) is None]
            behind = {self.source.get(value, value) for value in computed}
            if len(behind) == 1 and len(computed) > 1 and is_op(node, *_ARITHMETIC):
                # x sigmoid(x) and its like: a function of one number, however it is spelled.
                role = "function"
            self._roles[node] = role
            if role == "function":
                self.source[node.outputs[0]] = behind.pop() if len(behind) == 1 else node.outputs[0]

    def __getitem__(self, node: ir.Node) -> Role:
        return self._roles[node]
