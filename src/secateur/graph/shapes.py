"""Shapes of all values of an ONNX graph for one image.

Dynamic batch sizes become 1; a fixed one stays and is reported. Other open sides of the first input are
filled from a given input shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import shape_inference

from secateur.errors import ModelError
from secateur.graph.read import one_line
from secateur.graph.shape_arithmetic import fold_shapes
from secateur.graph.table import dims

# Larger constants are never shapes or axes; leaving their bytes out keeps shape inference fast and small.
SMALL = 4096
MAX_ROUNDS = 100


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
    _forget_open_shapes(light)
    known = _infer(light)
    # Every round sees one step further along a chain of reshapes that depend on each other's shapes.
    for _ in range(MAX_ROUNDS):
        if not fold_shapes(light, known):
            break
        known = _infer(light)
    return Shapes(known, max(first[0], 1) if first else 1, first[1:])


def run_inference(model: onnx.ModelProto, *, strict: bool = False) -> onnx.GraphProto:
    """The graph with the types of its values filled in by ONNX.

    strict    raise also for a single operator that does not fit, which is otherwise left without a type
    raises    ModelError
    """
    try:
        return shape_inference.infer_shapes(model, data_prop=True, strict_mode=strict).graph
    except (shape_inference.InferenceError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"the shapes of the model do not fit together: {one_line(reason).rstrip('.')}.") from error


def _infer(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    graph = run_inference(model)
    found = {value.name: sides_of(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    known = {name: sides for name, sides in found.items() if sides is not None}
    known.update({tensor.name: tuple(tensor.dims) for tensor in graph.initializer})
    return known


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


def _forget_open_shapes(model: onnx.ModelProto) -> None:
    """Drop recorded shapes that hold symbols: they were written for another batch."""
    stale = [value for value in model.graph.value_info if sides_of(value) is None]
    for value in stale:
        model.graph.value_info.remove(value)
    for value in model.graph.output:
        if sides_of(value) is None and value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def sides_of(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """Sides of a tensor, None where one is open or it is no tensor."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    sides = value.type.tensor_type.shape.dim
    if not all(side.HasField("dim_value") and side.dim_value >= 0 for side in sides):
        return None
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
