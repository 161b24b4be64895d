"""Types of all values of a model whose input shapes are known.

1. Open sides of inputs are closed by given shapes; a symbol that stands on several inputs has one size.
2. The open first side is the batch where it has no symbol or the first input's symbol.
3. Recorded shapes inside the file are not believed: they are computed again. Only the outputs of operators that ONNX
   does not know keep the types that the file records.
4. Shapes that depend on computed shapes are known where the arithmetic is (shape_arithmetic.py).
5. An operator that does not fit its inputs is an error; one whose output depends on data leaves it without a type.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import onnx
from onnx import helper

from secateur.errors import ModelError
from secateur.graph.ceil_mode import fix_ceil_mode
from secateur.graph.ir import TensorType
from secateur.graph.read import one_line
from secateur.graph.shape_arithmetic import fold_shapes
from secateur.graph.shapes import MAX_ROUNDS, run_inference, sides_of

# The largest tensor is 2^31 elements: what is larger is a mistake or an attack.
MAX_ELEMENTS = 1 << 31


@dataclass(frozen=True)
class ValueTypes:
    """What is known of the values of a model.

    known     value -> type, where the shape is complete and the elements are numbers
    loose     value -> what ONNX knows of the others
    """

    known: dict[str, TensorType]
    loose: dict[str, onnx.TypeProto]


def close_inputs(graph: onnx.GraphProto, batch: int | None, given: Mapping[str, tuple[int, ...]]) -> None:
    """Give every open side of every input a number, in place (rules 1 and 2).

    batch     size of open batches; None leaves them open, which is an error unless `given` closes them
    raises    ModelError  names the input and its open sides
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


def infer_types(model: onnx.ModelProto) -> ValueTypes:
    """Types of all values (rules 3 to 5). Shape arithmetic is replaced by initializers, in place.

    model     closed inputs; large initializers without their bytes
    raises    ModelError
    """
    graph = model.graph
    recorded = {output for node in graph.node if not _is_onnx(node) for output in node.output}
    stale = [value for value in graph.value_info if value.name not in recorded]
    for value in stale:
        graph.value_info.remove(value)
    for value in graph.output:
        if value.name not in recorded:
            value.ClearField("type")
    types = _types(run_inference(model))
    for _ in range(MAX_ROUNDS):
        changed = fix_ceil_mode(model, types.known)
        if not changed and not fold_shapes(model, {name: type.shape for name, type in types.known.items()}):
            break
        types = _types(run_inference(model))
    for tensor in graph.initializer:
        types.known.update(_type_of_tensor(tensor))
    _check_operators(model, types)
    return types


def _is_onnx(node: onnx.NodeProto) -> bool:
    return node.domain in ("", "ai.onnx")


def _types(graph: onnx.GraphProto) -> ValueTypes:
    types = ValueTypes({}, {})
    for value in (*graph.input, *graph.value_info, *graph.output):
        sides = sides_of(value)
        dtype = dtype_name(value.type.tensor_type.elem_type) if sides is not None else None
        if sides is None or dtype is None:
            if value.HasField("type"):
                types.loose[value.name] = value.type
            continue
        if math.prod(sides) > MAX_ELEMENTS:
            shape = "x".join(str(side) for side in sides)
            raise ModelError(f"value '{value.name}' has {shape} elements, more than the {MAX_ELEMENTS:,} allowed.")
        types.known[value.name] = TensorType(sides, dtype)
    for name in types.known:
        types.loose.pop(name, None)
    return types


def _type_of_tensor(tensor: onnx.TensorProto) -> dict[str, TensorType]:
    dtype = dtype_name(tensor.data_type)
    return {tensor.name: TensorType(tuple(tensor.dims), dtype)} if dtype else {}


def dtype_name(elem_type: int) -> str | None:
    """The numpy name of an ONNX element type; None for text and for types that numpy has no name for."""
    try:
        dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    except (KeyError, ValueError):
        return None
    return None if dtype.hasobject else dtype.name


def _check_operators(model: onnx.ModelProto, types: ValueTypes) -> None:
    """Rule 5: an operator whose inputs are all known and whose outputs are not is asked again, alone and strictly."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        _check_counts(node, types)
        outputs = [name for name in node.output if name]
        inputs = [name for name in node.input if name]
        if not _is_onnx(node) or not outputs or all(name in types.known for name in outputs):
            continue
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            continue
        if _is_composed(model, node):
            continue
        if not all(name in types.known for name in inputs):
            continue
        described = [
            helper.make_tensor_value_info(name, _element(types.known[name].dtype), types.known[name].shape)
            for name in dict.fromkeys(inputs)
            if name not in tensors
        ]
        alone = helper.make_graph(
            [node],
            "one",
            described,
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [tensors[name] for name in dict.fromkeys(inputs) if name in tensors],
        )
        one = helper.make_model(alone, opset_imports=list(model.opset_import))
        try:
            run_inference(one, strict=True)
        except ModelError as error:
            name = f" '{one_line(node.name)}'" if node.name else ""
            raise ModelError(f"operator {one_line(node.op_type)}{name} does not fit its inputs: {error}") from error


def _check_counts(node: onnx.NodeProto, types: ValueTypes) -> None:
    """What ONNX's shape inference does not look at: channels of convolutions, elements of reshaped tensors."""
    known = [types.known.get(name) for name in (*node.input[:2], *node.output[:1])]
    name = f" '{one_line(node.name)}'" if node.name else ""
    if not _is_onnx(node) or len(known) < 3:
        return
    x, second, y = known
    if node.op_type == "Reshape" and x is not None and y is not None and x.size != y.size:
        raise ModelError(f"operator Reshape{name} cannot make the shape {y.shape} out of {x.shape}.")
    if node.op_type == "Conv" and x is not None and second is not None and len(x.shape) == len(second.shape) > 2:
        group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        if x.shape[1] != second.shape[1] * group:
            raise ModelError(
                f"operator Conv{name} reads {x.shape[1]} channels; its weight of shape {second.shape} with "
                f"{group} groups does not fit that."
            )


def _is_composed(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether ONNX defines the operator by others: strict inference refuses some of these in error."""
    version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if not onnx.defs.has(node.op_type, version):
        return False
    schema = cast(Any, onnx.defs.get_schema(node.op_type, version))
    return bool(schema.has_function or schema.has_context_dependent_function)


def _element(dtype: str) -> int:
    return next(number for number in onnx.TensorProto.DataType.values() if number and dtype_name(number) == dtype)
