"""Activate, arithmetic of two values, ScaleShift: operators on single numbers.

Every operand is a strided view of the output's shape, with stride 0 where it is broadcast (lowering.walk). Whole planes
are rows when each operand has either the output's own pitch or one number per plane.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from secateur.engine.emit.activations import keeps_zero, supported
from secateur.engine.kernels.elementwise import OPERATIONS, Elementwise
from secateur.engine.layout import Flat, Picked, Planes
from secateur.engine.lowering.context import Context, Tensor, lowers
from secateur.engine.lowering.in_place import place_over
from secateur.engine.lowering.masks import mask_table
from secateur.engine.lowering.parts import parts_of
from secateur.engine.lowering.picked import whole_of
from secateur.engine.lowering.refusals import normal_float32
from secateur.engine.lowering.relayout import plane_offsets, to_flat, to_planes
from secateur.engine.lowering.walk import Walk, rows_of, starts_of, strides_in
from secateur.graph.ir import Activation, Graph, Node

_KEEPS_ZERO = ("Identity", "Add", "Sub", "Mul", "Max", "Min", "Square", "Cube", "Sqrt", "PRelu")
_POWERS = {0.5: "Sqrt", 1.0: "Identity", 2.0: "Square", 3.0: "Cube"}


def _refuses(node: Node, graph: Graph) -> str | None:
    reason = normal_float32(node, graph)
    activation: Activation | None = node.attributes.get("activation")
    if reason is None and not supported(activation):
        return f"the activation {activation} has no kernel"
    return reason


def _refuses_power(node: Node, graph: Graph) -> str | None:
    reason = _refuses(node, graph)
    exponent = graph.constants.get(node.inputs[1])
    if reason is None and (exponent is None or exponent.size != 1 or float(exponent.reshape(-1)[0]) not in _POWERS):
        return f"the exponent is not one of {', '.join(f'{power:g}' for power in _POWERS)}"
    return reason


@lowers("Activate", refuses=_refuses)
def activation(node: Node, context: Context) -> None:
    """One activation; inputs (x, slope)."""
    how: Activation = node.attributes["activation"]
    if how.kind == "prelu":
        slope = _per_channel(context, node, 1)
        emit_elementwise(context, node, "PRelu", [node.inputs[0], slope], None)
    else:
        emit_elementwise(context, node, "Identity", [node.inputs[0]], how)


@lowers("Add", "Sub", "Mul", "Div", "Max", "Min", refuses=_refuses)
def arithmetic(node: Node, context: Context) -> None:
    """Two operands, broadcast as numpy does, and an activation."""
    emit_elementwise(context, node, node.op, list(node.inputs), node.attributes.get("activation"))


@lowers("Pow", refuses=_refuses_power)
def power(node: Node, context: Context) -> None:
    """Small constant exponents."""
    exponent = float(context.graph.constants[node.inputs[1]].reshape(-1)[0])
    emit_elementwise(context, node, _POWERS[exponent], [node.inputs[0]], node.attributes.get("activation"))


@lowers("ScaleShift", refuses=_refuses)
def scale_shift(node: Node, context: Context) -> None:
    """x scale + shift, one number per channel each."""
    operands = [_per_channel(context, node, index) for index in (1, 2)]
    emit_elementwise(context, node, "ScaleShift", [node.inputs[0], *operands], node.attributes.get("activation"))


def emit_elementwise(
    context: Context,
    node: Node,
    operation: str,
    operands: Sequence[str | Tensor],
    activation: Activation | None,
) -> None:
    """The step of a node with one output; operands are names of values or constants."""
    assert operation in OPERATIONS
    shape = context.graph.shape(node.outputs[0])
    tensors = [context.tensor(operand) if isinstance(operand, str) else operand for operand in operands]
    full = tuple(
        operand
        for operand, tensor in zip(operands, tensors, strict=True)
        if isinstance(operand, str) and tensor.constant is None and tensor.shape == shape
    )
    y = place_over(context, node, full)
    tensors = [_like_output(context, tensor, y) for tensor in tensors]
    if len({layout.pitch for tensor in (y, *tensors) if isinstance(layout := _whole(tensor).layout, Planes)}) > 1:
        tensors = [to_planes(context, tensor) if isinstance(tensor.layout, Picked) else tensor for tensor in tensors]
    keeps_zeros = operation in _KEEPS_ZERO and keeps_zero(activation)
    walk = walk_over([y, *tensors], keeps_zeros)
    rows = walk.starts.shape[1]
    part, parts = parts_of(context, rows, walk.length)
    arguments = {
        "y": y.address,
        "targets": walk.starts[0],
        "length": walk.length,
        "parts": parts,
        "part": part,
        "masks": mask_table(y.planes, context.target.lanes) if walk.masked else 0,
    }
    for i, tensor in enumerate(tensors):
        arguments |= {f"x{i}": tensor.address, f"offsets{i}": walk.starts[i + 1]}
    kernel = Elementwise(operation, walk.kinds[1:], activation, walk.masked)
    context.emit(node.name, kernel, arguments, rows * parts, reads=tuple(tensors), writes=(y,))


def walk_over(tensors: Sequence[Tensor], keeps_zeros: bool) -> Walk:
    """How to walk over an output, the first tensor, and its operands.

    keeps_zeros    the result of zeros is zero, so that padding may be computed like everything else
    """
    shape = tensors[0].shape
    strides = np.array([strides_in(_whole(tensor), shape) for tensor in tensors], np.int64).reshape(len(tensors), -1)
    # Where an axis has one element its stride means nothing.
    strides = np.where(np.array(shape, np.int64) == 1, strides[:1], strides)
    layout = tensors[0].layout
    if not isinstance(layout, Planes):
        return rows_of(shape, strides)
    long = [axis for axis in (2, 3) if shape[axis] > 1]
    full = (strides[:, long] == strides[0, long]).all(1)
    if not (full | (strides[:, long] == 0).all(1)).all():
        return rows_of(shape, strides)
    # Whole vectors of a plane may end behind it; a dense array may end there, and the memory be the caller's.
    if any(f and isinstance(tensor.layout, Flat) for f, tensor in zip(full, tensors, strict=True)):
        return rows_of(shape, strides)
    picked = [isinstance(tensor.layout, Picked) for tensor in tensors]
    if keeps_zeros and full.all() and not any(picked) and (strides[:, 1] == layout.plane_stride).all():
        return rows_of((layout.n, layout.c * layout.plane_stride), np.stack([strides[:, 0], np.ones_like(full)], 1))
    length = (layout.h - 1) * layout.pitch + layout.w
    starts = starts_of(shape[:2], strides[:, :2])
    for index, tensor in enumerate(tensors):
        if picked[index]:
            starts[index] = plane_offsets(tensor)[0]
    return Walk(starts, tuple("full" if f else "row" for f in full), length, masked=True)


def _whole(tensor: Tensor) -> Tensor:
    """What a tensor's planes belong to: its own layout, or that of the tensor which they are picked from."""
    return whole_of(tensor) if isinstance(tensor.layout, Picked) else tensor


def _like_output(context: Context, tensor: Tensor, y: Tensor) -> Tensor:
    """An operand whose rows lie as the output's: in planes of its pitch, or dense."""
    layout = y.layout
    if not isinstance(layout, Planes):
        return to_flat(context, tensor)
    if tensor.constant is not None:
        return _constant_planes(tensor.constant, layout)
    if isinstance(tensor.layout, Flat) and len(tensor.shape) == 4 and tensor.shape[2:] == layout.shape[2:]:
        return to_planes(context, tensor)
    return tensor


def _constant_planes(array: NDArray[np.float32], layout: Planes) -> Tensor:
    """A constant in planes of an output's pitch where it has whole maps; as it is where it has one number per plane."""
    shape = (1,) * (4 - array.ndim) + array.shape
    if shape[2:] == (1, 1):
        return Tensor(Flat(shape), constant=array.reshape(shape))
    n, c = shape[:2]
    made = np.zeros((n, c, layout.plane_stride), np.float32)
    rows = made[:, :, : layout.h * layout.pitch].reshape(n, c, layout.h, layout.pitch)
    rows[..., : layout.w] = array
    stride = layout.plane_stride
    return Tensor(Planes(n, c, layout.h, layout.w, layout.pitch, stride, c * stride), constant=made)


def _per_channel(context: Context, node: Node, index: int) -> Tensor:
    """A constant (channels,) along axis 1 of the output."""
    rank = len(context.graph.shape(node.outputs[0]))
    array = context.graph.constants[node.inputs[index]].reshape((-1,) + (1,) * (rank - 2))
    return Tensor(Flat(array.shape), constant=np.ascontiguousarray(array))
