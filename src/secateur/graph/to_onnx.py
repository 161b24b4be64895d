"""A graph, or some of its nodes, as an ONNX model: what ONNX Runtime gets."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from secateur.errors import ModelError
from secateur.graph.expand import expand
from secateur.graph.ir import Graph, Node, TensorType
from secateur.graph.signature import signature_of


def to_onnx(graph: Graph, nodes: Iterable[Node] | None = None, outputs: Sequence[str] | None = None) -> onnx.ModelProto:
    """A model of these nodes.

    nodes     some of the graph's own node objects, all when not given; fused ones are expanded to ONNX operators
    outputs   values that the model gives; when not given, the graph's own outputs and what other nodes read
    returns   a model whose inputs are the values that the nodes read and nobody among them writes, in the graph's
              order; constants are initializers
    raises    ModelError  a value at the boundary whose type is not known at all
    """
    chosen = graph.nodes if nodes is None else _in_order(graph, nodes)
    if outputs is None:
        outputs = graph.outputs if nodes is None else _boundary(graph, chosen)
    part = expand(graph.with_nodes(chosen))
    written = {name for node in part.nodes for name in node.outputs}
    read = dict.fromkeys(name for node in part.nodes for name in node.reads() if name not in written)
    read.update(dict.fromkeys(name for name in outputs if name not in written))
    initializers = [name for name in read if name in part.constants]
    if nodes is None:
        inputs = list(graph.inputs)
    else:
        inputs = [name for name in read if name not in part.constants]
        order = {name: index for index, name in enumerate(graph.inputs)}
        inputs.sort(key=lambda name: order.get(name, len(order)))
    proto = helper.make_graph(
        [_node(node, graph) for node in part.nodes],
        "graph",
        [_described(part, name) for name in inputs],
        [_described(part, name) for name in outputs],
        [_tensor(part.constants[name], name) for name in initializers],
    )
    own = any(node.domain == "" for node in part.nodes)
    opsets = [helper.make_opsetid("", graph.opset)] if own else []
    opsets += [helper.make_opsetid(domain, version) for domain, version in graph.domains.items()]
    known = [opset for opset in opsets if opset.domain in ("", "ai.onnx.ml")]
    return helper.make_model(proto, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(known, True))


def _in_order(graph: Graph, nodes: Iterable[Node]) -> tuple[Node, ...]:
    chosen = {id(node) for node in nodes}
    return tuple(node for node in graph.nodes if id(node) in chosen)


def _boundary(graph: Graph, chosen: Sequence[Node]) -> list[str]:
    inside = {id(node) for node in chosen}
    needed = {name for node in graph.nodes if id(node) not in inside for name in node.reads()} | set(graph.outputs)
    return [name for node in chosen for name in node.outputs if name in needed]


def _described(graph: Graph, name: str) -> onnx.ValueInfoProto:
    if name in graph.types:
        type = graph.types[name]
        return helper.make_tensor_value_info(name, element_of(type), type.shape)
    if name in graph.loose:
        return onnx.ValueInfoProto(name=name, type=graph.loose[name])
    array = graph.constants.get(name)
    if array is not None and array.dtype.hasobject:
        return helper.make_tensor_value_info(name, onnx.TensorProto.STRING, array.shape)
    raise ModelError(f"the type of the value '{name}' is not known, so no part of the model can begin or end there.")


def element_of(type: TensorType) -> int:
    """ONNX's number of an element type."""
    return helper.np_dtype_to_tensor_dtype(type.numpy)


def _tensor(array: NDArray[Any], name: str) -> onnx.TensorProto:
    if array.dtype.hasobject:
        return helper.make_tensor(name, onnx.TensorProto.STRING, array.shape, list(array.reshape(-1)))
    return numpy_helper.from_array(array, name)


def _node(node: Node, graph: Graph) -> onnx.NodeProto:
    proto = helper.make_node(node.op, node.inputs, node.outputs, name=node.name, domain=node.domain)
    types = _attribute_types(node, graph)
    for key, value in node.attributes.items():
        held = numpy_helper.from_array(cast(NDArray[Any], value)) if isinstance(value, np.ndarray) else value
        kind = types.get(key) if isinstance(held, tuple) and not held else None
        if isinstance(held, float) and not math.isfinite(held):
            proto.attribute.add(name=key, type=onnx.AttributeProto.FLOAT, f=held)
        else:
            proto.attribute.append(helper.make_attribute(key, held, attr_type=kind))
    return proto


def _attribute_types(node: Node, graph: Graph) -> dict[str, int]:
    """Types of the operator's attributes: an empty list does not tell its own."""
    if all(value != () for value in node.attributes.values() if isinstance(value, tuple)):
        return {}
    version = graph.opset if node.domain == "" else graph.domains.get(node.domain, 1)
    signature = signature_of(node.op, version, node.domain)
    return signature.attributes if signature else {}
