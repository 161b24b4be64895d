"""From an ONNX model to the typed graph.

1. The model is checked as read.py says; its operators are of opset 11 or newer, older ones are converted
   (old_opset.py).
2. Local functions are unfolded.
3. Initializers and Constant operators become constants; an output that is a constant is written by an Identity.
4. Every value is written once. Nodes have unique names. They have the signatures that ONNX gives their
   operators.
5. Shapes are complete (value_types.py); values that depend on data, and values that are no tensors, have no type.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper

from secateur.errors import ModelError
from secateur.graph.close_inputs import close_inputs
from secateur.graph.ir import Graph, Node, TensorType
from secateur.graph.old_opset import OLDEST_OPSET, converted, opset_of, reason_of
from secateur.graph.read import one_line, read_stored, stored
from secateur.graph.shapes import SMALL
from secateur.graph.signature import check_signatures
from secateur.graph.stored import Bytes, StoredModel, array_of
from secateur.graph.value_types import infer_types

# The largest tensor is 2^31 elements: what is larger is a mistake or an attack.
MAX_ELEMENTS = 1 << 31


def load_graph(
    model: Path | str | onnx.ModelProto | StoredModel,
    *,
    batch: int | None = 1,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Graph:
    """The graph of an ONNX file or of a model in memory, with all shapes complete.

    Large constants are views of a StoredModel's data.

    batch           size of the batch where the file leaves it open; a batch that the file fixes stays
    input_shapes    input -> shape, for inputs whose other sides are open
    raises          ModelError
    """
    if batch is not None and batch < 1:
        raise ModelError(f"a batch of {batch} has no images; it is at least 1.")
    if isinstance(model, onnx.ModelProto):
        return _graph(stored(model), batch, input_shapes or {})
    if isinstance(model, StoredModel):
        return _graph(model, batch, input_shapes or {})
    try:
        return _graph(read_stored(model), batch, input_shapes or {})
    except ModelError as error:
        raise ModelError(f"{model}: {error}") from error


def _graph(given: StoredModel, batch: int | None, input_shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    if given.proto.functions or opset_of(given.proto) < OLDEST_OPSET:
        model = modernised(given.whole())
        constants = _constants(model, {})
    else:
        model = converted(given.proto)
        constants = _constants(model, given.data)
    light = _light(model, constants)
    _check_single_assignment(light.graph, constants)
    check_signatures(light.graph, opset_of(model))
    close_inputs(light.graph, batch, input_shapes)
    types = infer_types(light)
    _check_sizes(types.known)
    for tensor in light.graph.initializer:
        if tensor.name not in constants:
            constants[tensor.name] = numpy_helper.to_array(tensor)
    known = dict(types.known)
    for name, array in constants.items():
        if not array.dtype.hasobject:
            known[name] = TensorType(array.shape, array.dtype.name)
    domains = {entry.domain: entry.version for entry in model.opset_import}
    nodes = _nodes(light.graph)
    outputs = tuple(value.name for value in light.graph.output)
    for index, name in enumerate(outputs):
        if name in constants:
            source = _unused(f"{name}.constant", known)
            constants[source] = constants.pop(name)
            if name in known:
                known[source] = known[name]
            nodes = [_reading(node, name, source) for node in nodes]
            nodes.append(Node(f"output_{index}", "Identity", (source,), (name,)))
    return Graph(
        tuple(_uniquely_named(nodes)),
        tuple(value.name for value in light.graph.input),
        outputs,
        known,
        constants,
        opset_of(model),
        {domain: version for domain, version in domains.items() if domain not in ("", "ai.onnx")},
        types.loose,
    )


def modernised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model by rules 1 and 2: of opset 11 or newer, without local functions. raises ModelError."""
    return _unfolded(converted(model))


def _unfolded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rule 2."""
    if not model.functions:
        return model
    try:
        return inliner.inline_local_functions(model, convert_version=True)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"the model's local functions cannot be unfolded: {reason_of(error)}.") from error


def _constants(model: onnx.ModelProto, data: Mapping[int, Bytes]) -> dict[str, np.ndarray]:
    """Rule 3. The arrays are views of the tensors' bytes where ONNX stores them as bytes."""
    constants: dict[str, np.ndarray] = {}
    for index, tensor in enumerate(model.graph.initializer):
        _add(constants, tensor.name, array_of(tensor, data[index]) if index in data else _array(tensor))
    for sparse in model.graph.sparse_initializer:
        _add(constants, sparse.values.name, _dense(sparse))
    for node in model.graph.node:
        if _is_constant(node):
            _add(constants, node.output[0], _constant_value(node))
    return constants


def _add(constants: dict[str, np.ndarray], name: str, array: np.ndarray) -> None:
    if name in constants:
        raise ModelError(f"the value '{name}' is defined twice.")
    constants[name] = array


def _is_constant(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" and node.domain in ("", "ai.onnx") and len(node.output) == 1


def _array(tensor: onnx.TensorProto) -> np.ndarray:
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ModelError(f"tensor '{tensor.name}' cannot be read: {one_line(str(error))}.") from error


def _dense(sparse: onnx.SparseTensorProto) -> np.ndarray:
    name = sparse.values.name
    values, indices = _array(sparse.values), _array(sparse.indices)
    shape = tuple(sparse.dims)
    if any(side < 0 for side in shape) or int(np.prod([float(side) for side in shape])) > MAX_ELEMENTS:
        raise ModelError(f"the sparse tensor '{name}' has the shape {list(shape)}, which is not allowed.")
    dense = np.zeros(shape, values.dtype)
    try:
        if indices.ndim == 2:
            dense[tuple(indices.T)] = values
        else:
            dense.reshape(-1)[indices] = values
    except (IndexError, ValueError) as error:
        raise ModelError(f"the sparse tensor '{name}' has values outside its shape {list(shape)}.") from error
    return dense


def _constant_value(node: onnx.NodeProto) -> np.ndarray:
    if len(node.attribute) == 1:
        attribute = node.attribute[0]
        if attribute.name == "value":
            return _array(attribute.t)
        if attribute.name == "sparse_value":
            return _dense(attribute.sparse_tensor)
        if attribute.name in ("value_float", "value_floats"):
            return np.asarray(helper.get_attribute_value(attribute), np.float32)
        if attribute.name in ("value_int", "value_ints"):
            return np.asarray(helper.get_attribute_value(attribute), np.int64)
        if attribute.name in ("value_string", "value_strings"):
            return np.asarray(helper.get_attribute_value(attribute), object)
    raise ModelError(f"the operator Constant '{node.name}' has no value.")


def _light(model: onnx.ModelProto, constants: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """A copy for shape inference: no Constant operators, no inputs that are constants, no large data."""
    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    if not any(entry.domain in ("", "ai.onnx") for entry in light.opset_import):
        light.opset_import.add(domain="", version=opset_of(model))
    graph = light.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(node for node in model.graph.node if not _is_constant(node))
    graph.input.extend(value for value in model.graph.input if value.name not in constants)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    for name, array in constants.items():
        if array.dtype.hasobject:
            continue
        if array.nbytes <= SMALL:
            graph.initializer.append(numpy_helper.from_array(array, name))
        else:
            element = helper.np_dtype_to_tensor_dtype(array.dtype)
            graph.initializer.append(onnx.TensorProto(name=name, dims=list(array.shape), data_type=element))
    return light


def _check_single_assignment(graph: onnx.GraphProto, constants: Mapping[str, np.ndarray]) -> None:
    """Rule 4."""
    written = set(constants)
    for name in (value.name for value in graph.input):
        if name in written:
            raise ModelError(f"the input '{name}' stands in the model twice.")
        written.add(name)
    for node in graph.node:
        for name in filter(None, node.output):
            if name in written:
                raise ModelError(f"operator {node.op_type} '{node.name}' writes '{name}', which exists already.")
            written.add(name)


def _check_sizes(types: Mapping[str, TensorType]) -> None:
    for name, type in types.items():
        if type.size > MAX_ELEMENTS:
            shape = "x".join(str(side) for side in type.shape)
            raise ModelError(f"value '{name}' has {shape} elements, more than the {MAX_ELEMENTS:,} allowed.")


def _nodes(graph: onnx.GraphProto) -> list[Node]:
    return [
        Node(
            node.name or f"{node.op_type}_{index}",
            node.op_type,
            tuple(node.input),
            tuple(node.output),
            {attribute.name: _attribute(node, attribute) for attribute in node.attribute},
            "" if node.domain == "ai.onnx" else node.domain,
        )
        for index, node in enumerate(graph.node)
    ]


def _attribute(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> Any:
    """A plain value: text as str, lists as tuples, tensors as arrays; graphs and types as they are."""
    if attribute.ref_attr_name:
        raise ModelError(f"operator {node.op_type} '{node.name}' refers to an attribute of a function outside of one.")
    try:
        value = helper.get_attribute_value(attribute)
    except (ValueError, TypeError) as error:
        raise ModelError(f"operator {node.op_type} '{node.name}': attribute '{attribute.name}' is empty.") from error
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, onnx.TensorProto):
        return _array(value)
    if isinstance(value, str | int | float) or not isinstance(value, Iterable):
        return value
    return tuple(
        entry.decode(errors="replace") if isinstance(entry, bytes) else entry for entry in cast(Iterable[Any], value)
    )


def _reading(node: Node, old: str, new: str) -> Node:
    inputs = tuple(new if name == old else name for name in node.inputs)
    return Node(node.name, node.op, inputs, node.outputs, node.attributes, node.domain)


def _uniquely_named(nodes: Iterable[Node]) -> Iterable[Node]:
    taken: dict[str, Any] = {}
    for node in nodes:
        name = _unused(node.name, taken)
        taken[name] = None
        yield Node(name, node.op, node.inputs, node.outputs, node.attributes, node.domain)


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    if name not in taken:
        return name
    return next(f"{name}.{index}" for index in range(1, len(taken) + 2) if f"{name}.{index}" not in taken)
