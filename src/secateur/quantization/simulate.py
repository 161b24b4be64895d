"""The numbers of a scale table put into float arithmetic: what quantization costs, before any integer is written.

    weights    w^ = step (q - zero), stored as floats
    values     x^ = step clamp(round(x / step), low - zero, high - zero)         Div, Round, Clip, Mul behind the value

The result is a float file with the same layers, so that all that works on float files works on it: its layers get what
they get in the quantized network. Biases stay float. Any number of bits. A node that stays float reads what is not
rounded where the quantized file's does (qdq.py, rule 4).
"""

from collections.abc import Iterable

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from secateur.errors import QuantizationError
from secateur.quantization.numbers import Scale, rounded
from secateur.quantization.points import is_rectifier
from secateur.quantization.roles import Roles
from secateur.quantization.subjects import copy_of
from secateur.quantization.table import ScaleTable

SUFFIX = "__rounded"


def simulated(model: onnx.ModelProto, table: ScaleTable, *, weights: bool = True) -> onnx.ModelProto:
    """A prepared float model that computes with the numbers of a table.

    weights    False: weights stay as they are, values are rounded
    raises     QuantizationError  a table of another model
    """
    work = copy_of(model)
    if weights:
        round_weights_(work, table)
    round_values_(work, table)
    return work


def round_weights_(model: onnx.ModelProto, table: ScaleTable, only: Iterable[str] | None = None) -> None:
    """Replace weights by what their integers stand for; `only` names initializers. raises QuantizationError."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    wanted = table.weights.keys() if only is None else only
    for name in wanted:
        if name not in tensors:
            raise QuantizationError(f"the table has a scale for the weight '{name}', which the model does not have.")
        array = rounded(numpy_helper.to_array(tensors[name]), table.weights[name])
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))


def round_values_(model: onnx.ModelProto, table: ScaleTable) -> None:
    """Round every value of the table behind the operator that writes it. raises QuantizationError."""
    graph = model.graph
    written = {value.name for value in graph.input}
    written.update(name for node in graph.node for name in node.output)
    missing = sorted(table.values.keys() - written)
    if missing:
        raise QuantizationError(f"the table has a scale for the value '{missing[0]}', which the model does not have.")
    outputs = {value.name for value in graph.output}
    exact = exact_reads(model, table)
    nodes: list[onnx.NodeProto] = []
    for value in graph.input:
        if value.name in table.values:
            nodes += rounding_nodes(model, value.name, f"{value.name}{SUFFIX}", table.values[value.name])
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in table.values and (node.name, name) not in exact:
                node.input[index] = f"{name}{SUFFIX}"
        nodes.append(node)
        for index, name in enumerate(list(node.output)):
            if name not in table.values:
                continue
            if name in outputs:
                # An output keeps its name: what was computed gets another, and those who read it read the rounded one.
                node.output[index] = f"{name}__exact"
                nodes += rounding_nodes(model, f"{name}__exact", name, table.values[name])
                nodes.append(helper.make_node("Identity", [name], [f"{name}{SUFFIX}"], f"{name}{SUFFIX}/same"))
            else:
                nodes += rounding_nodes(model, name, f"{name}{SUFFIX}", table.values[name])
    fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(fresh)


def exact_reads(model: onnx.ModelProto, table: ScaleTable) -> set[tuple[str, str]]:
    """(node, value) where a node that stays float reads a value that no integer operator computes."""
    if not table.floats:
        return set()
    graph = ir.from_proto(model).graph
    roles = Roles(graph)
    found: set[tuple[str, str]] = set()
    for node in graph:
        for value in node.inputs if node.name in table.floats else ():
            if value is None or value.name not in table.values:
                continue
            producer = value.producer()
            if producer is not None and is_rectifier(producer) and producer.inputs[0] is not None:
                producer = producer.inputs[0].producer() or producer
            if producer is None or producer.name in table.floats or roles[producer] in ("function", "other"):
                found.add((node.name or "", value.name or ""))
    return found


def rounding_nodes(model: onnx.ModelProto, source: str, result: str, scale: Scale) -> list[onnx.NodeProto]:
    if scale.axis is not None:
        raise QuantizationError(f"'{source}': values have one scale for the whole tensor, not one for each channel.")
    low, high = scale.numbers.low - int(scale.zero), scale.numbers.high - int(scale.zero)
    names = {key: f"{result}/{key}" for key in ("step", "low", "high")}
    for key, number in (("step", scale.step), ("low", low), ("high", high)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(number, np.float32), names[key]))
    parts = [f"{result}/{index}" for index in range(3)]
    return [
        helper.make_node("Div", [source, names["step"]], [parts[0]], parts[0]),
        helper.make_node("Round", [parts[0]], [parts[1]], parts[1]),
        helper.make_node("Clip", [parts[1], names["low"], names["high"]], [parts[2]], parts[2]),
        helper.make_node("Mul", [parts[2], names["step"]], [result], f"{result}/3"),
    ]
