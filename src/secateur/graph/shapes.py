"""Shapes of all values of an ONNX graph for one image.

Dynamic batch sizes become 1; a fixed one stays and is reported. Other open sides of the first input are
filled from a given input shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from secateur.errors import ModelError
from secateur.graph.table import dims
from secateur.graph.value_types import infer_types

# Larger constants are never shapes or axes; leaving their bytes out keeps shape inference fast and small.
SMALL = 4096


@dataclass(frozen=True)
class Shapes:
    """Name of a value -> its sides, where all are known.

    batch          images that the graph computes at once: 1 unless the file fixes another number
    input_shape    sides of the first input without the batch
    """

    of: dict[str, tuple[int, ...]]
    batch: int
    input_shape: tuple[int, ...]


def infer_shapes(model: onnx.ModelProto, input_shape: Sequence[int] | None = None) -> Shapes:
    """Run ONNX shape inference with the batch set to 1 where it is open.

    input_shape    (channels, height, width) for sides of the first input that the file leaves open
    raises         ModelError  open sides and no input shape, a shape that contradicts the file, damaged
                   operators
    """
    light = _without_data(model)
    initializers = {tensor.name for tensor in light.graph.initializer}
    inputs = [value for value in light.graph.input if value.name not in initializers]
    if not inputs:
        raise ModelError("the model has no input.")
    first = _close(inputs[0], input_shape)
    for value in inputs[1:]:
        _close(value, None)
    types = infer_types(light, strict=False)
    known = {name: type.shape for name, type in types.known.items()}
    return Shapes(known, max(first[0], 1) if first else 1, first[1:])


def _close(value: onnx.ValueInfoProto, given: Sequence[int] | None) -> tuple[int, ...]:
    """Give every open side of an input a number, in place."""
    if not value.type.tensor_type.HasField("shape"):
        raise ModelError(f"input '{value.name}' has no shape, so work cannot be counted.")
    sides = value.type.tensor_type.shape.dim
    if given is not None and len(given) != len(sides) - 1:
        raise ModelError(
            f"input '{value.name}' has {len(sides) - 1} sides besides the batch; {dims(given)} has {len(given)}."
        )
    for axis, side in enumerate(sides):
        fixed = side.dim_value if side.HasField("dim_value") and side.dim_value > 0 else None
        wanted = 1 if axis == 0 else (given[axis - 1] if given is not None else None)
        if fixed is None and wanted is None:
            name = side.dim_param or "?"
            raise ModelError(
                f"input '{value.name}' leaves its side '{name}' open; give "
                f"input_shape=(channels, height, width) so that positions can be counted."
            )
        if fixed is not None and axis and given is not None and fixed != wanted:
            raise ModelError(
                f"input '{value.name}' has a fixed side of {fixed} where input_shape {dims(given)} says {wanted}."
            )
        if fixed is None and wanted is not None:
            side.dim_value = int(wanted)
    return tuple(side.dim_value for side in sides)


def _without_data(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model without the bytes of its large initializers."""
    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    graph, copy = model.graph, light.graph
    copy.name = graph.name or "graph"
    copy.node.extend(graph.node)
    copy.input.extend(graph.input)
    copy.output.extend(graph.output)
    copy.value_info.extend(graph.value_info)
    for tensor in graph.initializer:
        if tensor.ByteSize() <= SMALL:
            copy.initializer.append(tensor)
        else:
            copy.initializer.append(
                onnx.TensorProto(name=tensor.name, dims=list(tensor.dims), data_type=tensor.data_type)
            )
    return light
