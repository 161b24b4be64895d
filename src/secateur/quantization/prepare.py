"""A float ONNX file in the form that scales are chosen for.

1. The model is of opset 13 or newer and without local functions; every node has a name of its own.
2. What depends on no input is computed, and becomes an initializer; so do sides of maps that are known.
3. Padding with zeros in front of a convolution becomes the convolution's.
4. Batch norms, and factors and terms for each channel, are folded into the layer in front of them.
5. A product of a matrix with a constant and a term is a Gemm, and Gemm's factors are in its constants.
6. The mean over all positions of a map is a GlobalAveragePool.

Values keep their names. A model that is prepared stays as it is.
"""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, shape_inference

from secateur.errors import ModelError, QuantizationError
from secateur.graph import check_model, load_graph
from secateur.graph.load import modernised
from secateur.graph.old_opset import converted, opset_of, reason_of
from secateur.quantization.folds import fold_all_
from secateur.quantization.rewriting import constant_of, is_op, operand, replace_value_, store_constant

OLDEST_OPSET = 13
# A constant that is larger than this stays the operators that make it.
MAX_FOLDED_BYTES = 64 << 20
# Operators without inputs that give another value each time.
_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function by the rules above; the model that is given is left as it is.

    raises    ModelError  a damaged model;  QuantizationError  one that cannot be brought to opset 13, or that is
              quantized already
    """
    check_model(model)
    graph = _read(with_opset(modernised(model), OLDEST_OPSET))
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv") for node in graph.graph):
        raise QuantizationError("this model is quantized already; give the float one that it was made from.")
    for value in list(graph.graph.initializers.values()):
        if value.is_graph_input():
            # Before version 4 of the format every stored tensor had to be an input too.
            graph.graph.inputs.remove(value)
    graph.ir_version = max(graph.ir_version or 0, 8)
    name_nodes_(graph.graph)
    fold_constants_(graph)
    fold_known_sides_(graph.graph)
    fold_constants_(graph)
    fold_all_(graph.graph)
    drop_unread_(graph.graph)
    return ir.to_proto(graph)


def add_shapes_(model: ir.Model, proto: onnx.ModelProto) -> None:
    """Write down the sides of all values that are the same whatever the batch.

    Where a file leaves more than its batch open, only what ONNX itself infers is known.
    """
    try:
        few, more = (load_graph(proto, batch=batch).types for batch in (2, 3))
    except ModelError:
        return
    for value in (value for node in model.graph for value in node.outputs):
        first, second = few.get(value.name or ""), more.get(value.name or "")
        if first is None or second is None or len(first.shape) != len(second.shape) or value.is_graph_output():
            continue
        sides = [a if a == b else None for a, b in zip(first.shape, second.shape, strict=True)]
        value.shape, value.type = ir.Shape(sides), ir.TensorType(ir.DataType.from_numpy(np.dtype(first.dtype)))


def _read(model: onnx.ModelProto) -> ir.Model:
    try:
        inferred = shape_inference.infer_shapes(model, data_prop=True)
    except (RuntimeError, ValueError, TypeError) as error:
        raise QuantizationError(f"the shapes of the model contradict each other: {reason_of(error)}.") from error
    read = ir.from_proto(inferred)
    add_shapes_(read, model)
    return read


def with_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model in this opset or, where its own is newer, as it is. raises QuantizationError."""
    if opset_of(model) >= opset:
        return model
    try:
        newer = converted(model, opset)
    except ModelError as error:
        raise QuantizationError(str(error)) from error
    del newer.metadata_props[:]
    newer.metadata_props.extend(model.metadata_props)
    return newer


def name_nodes_(graph: ir.Graph) -> None:
    """Give every node a name that no other has: its own, or that of its first output."""
    taken: set[str] = set()
    for node in graph:
        wanted = node.name or next((value.name for value in node.outputs if value.name), None) or node.op_type
        name, count = wanted, 1
        while name in taken:
            count += 1
            name = f"{wanted}_{count}"
        taken.add(name)
        node.name = name


def fold_constants_(model: ir.Model) -> None:
    """Compute what depends on no input, by ONNX Runtime."""
    graph = model.graph
    folded: list[ir.Node] = []
    known = set(graph.initializers.values())
    for node in graph:
        inner = any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values())
        own = node.domain in ("", "ai.onnx") and node.op_type not in _RANDOM and not inner
        if own and all(value is None or value in known for value in node.inputs):
            folded.append(node)
            known.update(node.outputs)
    inside = set(folded)
    wanted = [
        value
        for node in folded
        for value in node.outputs
        if value.is_graph_output() or any(user not in inside for user, _ in value.uses())
    ]
    arrays = _computed(model, folded, wanted)
    for value, array in zip(wanted, arrays, strict=True):
        if array.nbytes > MAX_FOLDED_BYTES:
            continue
        if value.is_graph_output():
            # An output is written by a node.
            name = value.name or ""
            value.name = f"{name}.folded"
            source = store_constant(graph, f"{name}.constant", array)
            identity = ir.node("Identity", [source], name=f"{name}.Identity")
            identity.outputs[0].name = name
            identity.outputs[0].shape, identity.outputs[0].type = value.shape, value.type
            graph.append(identity)
            graph.outputs[graph.outputs.index(value)] = identity.outputs[0]
            value.replace_all_uses_with(source)
            continue
        name = value.name or "constant"
        value.name = f"{name}.folded"
        replace_value_(value, store_constant(graph, name, array))
    drop_unread_(graph)


def fold_known_sides_(graph: ir.Graph) -> None:
    """A side of a value that is taken out of its Shape is a constant where it is known (the batch is not)."""
    for node in list(graph):
        shape = node.inputs[0].producer() if is_op(node, "Gather") and node.inputs[0] is not None else None
        index = constant_of(operand(node, 1))
        if shape is None or not is_op(shape, "Shape") or shape.attributes or index is None or index.size != 1:
            continue
        source = shape.inputs[0]
        sides = None if source is None or source.shape is None else list(source.shape)
        place = int(index.reshape(()))
        if sides is None or not -len(sides) <= place < len(sides) or not isinstance(sides[place], int):
            continue
        value = node.outputs[0]
        if not value.is_graph_output():
            name, value.name = value.name or "side", f"{value.name}.folded"
            replace_value_(value, store_constant(graph, name, np.full(index.shape, sides[place], np.int64)))


def _computed(model: ir.Model, nodes: list[ir.Node], wanted: list[ir.Value]) -> list[NDArray[Any]]:
    if not wanted:
        return []
    read = {value for node in nodes for value in node.inputs if value is not None and value.is_initializer()}
    stored: list[onnx.TensorProto] = []
    for value in read:
        assert value.const_value is not None
        tensor = ir.serde.serialize_tensor(value.const_value)
        tensor.name = value.name or ""
        stored.append(tensor)
    proto = helper.make_graph(
        [ir.serde.serialize_node(node) for node in nodes],
        "constants",
        [],
        [onnx.ValueInfoProto(name=value.name or "") for value in wanted],
        stored,
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    part = helper.make_model(proto, opset_imports=opsets, ir_version=model.ir_version or 8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [np.asarray(array) for array in session.run(None, {})]
    except Exception as error:  # its exceptions share no public base class
        raise QuantizationError(f"a constant of the model cannot be computed: {reason_of(error)}.") from error


def drop_unread_(graph: ir.Graph) -> None:
    """Take away nodes and initializers that nobody reads."""
    for node in reversed(list(graph)):
        if all(not value.uses() and not value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
