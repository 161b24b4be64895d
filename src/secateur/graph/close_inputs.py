"""Open sides of a model's inputs get numbers.

1. A given shape closes its input; a symbol that stands on several inputs has one size.
2. An open first side is the batch where it has no symbol or the first input's symbol.
3. What is still open is an error.
"""

from collections.abc import Mapping

import onnx

from secateur.errors import ModelError
from secateur.graph.read import one_line


def close_inputs(graph: onnx.GraphProto, batch: int | None, given: Mapping[str, tuple[int, ...]]) -> None:
    """Give every open side of every input a number, in place.

    batch     size of open batches; None leaves them open, which is an error unless `given` closes them
    raises    ModelError  rule 3, naming the input and its open sides; given shapes that contradict the file
    """
    names = [value.name for value in graph.input]
    for name in given:
        if name not in names:
            raise ModelError(f"the model has no input '{name}'; its inputs are {', '.join(names)}.")
    sizes = _given_symbols(graph, given)
    tensors = [value for value in graph.input if value.type.HasField("tensor_type")]
    first = next((value for value in tensors if value.type.tensor_type.shape.dim), None)
    symbol = first.type.tensor_type.shape.dim[0].dim_param if first is not None else ""
    for value in tensors:
        if not value.type.tensor_type.HasField("shape"):
            raise ModelError(f"input '{value.name}' has no shape; give one in input_shapes.")
        sides = value.type.tensor_type.shape.dim
        open_sides: list[str] = []
        for axis, side in enumerate(sides):
            if side.HasField("dim_value") and side.dim_value >= 0:
                continue
            size = sizes.get(side.dim_param) if side.dim_param else None
            if size is None and axis == 0 and batch is not None and side.dim_param in ("", symbol):
                size = batch
            if size is None:
                open_sides.append(f"{axis} ('{one_line(side.dim_param)}')" if side.dim_param else str(axis))
            else:
                side.dim_value = size
        if open_sides:
            raise ModelError(
                f"input '{value.name}' leaves its side {', '.join(open_sides)} open; give its whole shape, as in "
                f"input_shapes={{'{value.name}': (1, 3, 224, 224)}}."
            )


def _given_symbols(graph: onnx.GraphProto, given: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Write the given shapes into the inputs; what the symbols stand for."""
    sizes: dict[str, int] = {}
    for value in graph.input:
        shape = given.get(value.name)
        if shape is None:
            continue
        if not value.type.HasField("tensor_type"):
            raise ModelError(f"input '{value.name}' is no tensor and can be given no shape.")
        if any(side < 0 for side in shape):
            raise ModelError(f"the shape {tuple(shape)} of input '{value.name}' has a negative side.")
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and len(tensor.shape.dim) != len(shape):
            raise ModelError(
                f"input '{value.name}' has {len(tensor.shape.dim)} sides, {tuple(shape)} has {len(shape)}."
            )
        for axis, size in enumerate(shape):
            side = tensor.shape.dim[axis] if axis < len(tensor.shape.dim) else tensor.shape.dim.add()
            fixed = side.dim_value if side.HasField("dim_value") and side.dim_value >= 0 else None
            fixed = sizes.get(side.dim_param) if side.dim_param else fixed
            if fixed is not None and fixed != size:
                raise ModelError(f"side {axis} of input '{value.name}' is {fixed}; the given shape says {size}.")
            if side.dim_param:
                sizes[side.dim_param] = size
            side.dim_value = size
    return sizes
