"""Operators on single numbers: the channels that meet in one number become one channel.

A stored tensor that is added or multiplied (PReLU, layer scale, a position embedding) takes part along the axes of
channels; along other axes it keeps its length.
"""

import numpy as np

from secateur.channels.groups import IntArray
from secateur.channels.onnx_table import OnnxTrace, called, rule
from secateur.graph.ir import Node


@rule(
    "Abs Acos Acosh Asin Asinh Atan Atanh Bernoulli BitwiseNot Cast Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor "
    "Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink "
    "Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
)
def function(trace: OnnxTrace, node: Node) -> None:
    """A function of the first operand; the others are its settings."""
    if any(trace.is_value(name) for name in node.inputs[1:]):
        trace.freeze(node, f"{called(node)} with computed settings")
    for name in node.outputs:
        trace.set(name, trace.of(node.inputs[0]))


@rule(
    "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min "
    "Mod Mul Or PRelu Pow Sub Sum Where Xor"
)
def arithmetic(trace: OnnxTrace, node: Node) -> None:
    """Operands are broadcast."""
    ids: IntArray = np.broadcast_to(np.int64(-1), ())
    constants = [name for name in node.inputs if not trace.is_value(name)]
    for name in node.inputs:
        if name not in constants:
            ids = trace.ids.union(ids, trace.of(name), f"{called(node)} with a value of fixed size")
    for name in constants:
        ids = joined(trace, node, name, ids)
    trace.set(node.outputs[0], ids)


def joined(trace: OnnxTrace, node: Node, name: str, ids: IntArray) -> IntArray:
    """Ids of a result that a constant takes part in: along its axes of channels, a stored one belongs to them."""
    shape, view = trace.shape(name), trace.network.view(name)
    ids = np.broadcast_to(ids, trace.shape(node.outputs[0]))
    leading = ids.ndim - len(shape)
    fixed: IntArray = np.broadcast_to(np.int64(-1), shape)
    for axis, length in enumerate(shape):
        if length > 1 and trace.ids.varies(ids, axis + leading) and view is not None and view.axes[axis] is not None:
            atoms = trace.ids.along(ids, axis + leading)
            trace.member(node, view, axis, atoms, "parameter")
            fixed = np.broadcast_to(atoms.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)
    return trace.ids.union(ids, fixed, f"{called(node)} with a constant that is computed")
