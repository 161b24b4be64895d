"""What quantized files are written with: small steps over onnx-ir's graphs."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


def constant_of(value: ir.Value | None) -> NDArray[Any] | None:
    """The elements of an initializer, None for everything else."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value.const_value.numpy()


def is_op(node: ir.Node | None, *kinds: str) -> bool:
    """Whether a node is one of ONNX's own operators with one of these names."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in kinds


def operand(node: ir.Node, index: int) -> ir.Value | None:
    """An operand, None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def int_attribute(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default


def float_attribute(node: ir.Node, name: str, default: float) -> float:
    return node.attributes[name].as_float() if name in node.attributes else default


def ints_attribute(node: ir.Node, name: str, default: list[int]) -> list[int]:
    return list(node.attributes[name].as_ints()) if name in node.attributes else default


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that reads a value, where it is one, reads it once, and the value is no output."""
    readers = [use.node for use in value.uses()]
    return readers[0] if len(readers) == 1 and not value.is_graph_output() else None


def free_name(graph: ir.Graph, wanted: str) -> str:
    """`wanted`, or with a number behind it the first name that no value of the graph has."""
    taken = set(graph.initializers) | {value.name for value in graph.inputs}
    taken.update(value.name for node in graph for value in node.outputs)
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    return name


def store_constant(graph: ir.Graph, name: str, array: NDArray[Any] | ir.TensorProtocol) -> ir.Value:
    """An initializer of the graph; its name gets a number where it is taken."""
    name = free_name(graph, name)
    tensor = ir.tensor(np.asarray(array, order="C"), name=name) if isinstance(array, np.ndarray | np.generic) else array
    tensor.name = name
    shape = ir.Shape(tuple(tensor.shape.numpy()))
    value = ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def give_operand_(graph: ir.Graph, node: ir.Node, index: int, name: str, array: NDArray[Any]) -> ir.Value:
    """Let one operand of a node be this constant; others who read the old one keep it."""
    while len(node.inputs) <= index:
        node.resize_inputs(len(node.inputs) + 1)
    old = node.inputs[index]
    if old is not None and old.is_initializer() and len(old.uses()) == 1 and not old.is_graph_output():
        old.const_value = ir.tensor(np.asarray(array, order="C"), name=old.name)
        old.shape, old.type = ir.Shape(array.shape), ir.TensorType(old.const_value.dtype)
        return old
    value = store_constant(graph, name, array)
    node.replace_input_with(index, value)
    return value


def replace_value_(old: ir.Value, new: ir.Value) -> None:
    """Let everybody read `new` in place of `old`."""
    old.replace_all_uses_with(new)


def bypass_(graph: ir.Graph, head: ir.Node, tail: ir.Node) -> None:
    """Take away `tail`, whose value `head` computes from now on under the name it had."""
    before, after = head.outputs[0], tail.outputs[0]
    name, shape, kind = after.name, after.shape, after.type
    after.name = None
    before.name, before.shape, before.type = name, shape, kind
    after.replace_all_uses_with(before, replace_graph_outputs=True)
    graph.remove(tail, safe=True)
