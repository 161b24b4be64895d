"""Quantized graphs in numpy: the oracle for everything that runs them."""

from collections.abc import Mapping

import numpy as np

from graph_tools import run_model
from secateur.graph.ir import Graph
from secateur.graph.quantized import compute
from secateur.graph.to_onnx import to_onnx

INTEGERS = frozenset(
    ("Dequantize", "QActivate", "QAdd", "QConcat", "QConv", "QGlobalPool", "QLinear", "QMul", "QPool", "Quantize")
)


def run_in_numpy(graph: Graph, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every value of a graph in normal form: quantized operators by their definition, others in ONNX Runtime."""
    values = {**graph.constants, **feeds}
    for node in graph.nodes:
        if node.domain == "secateur" and node.op in INTEGERS:
            inputs = [values[name] if name else None for name in node.inputs]
            values[node.outputs[0]] = compute(node, inputs, graph.types[node.outputs[0]].dtype)
            continue
        part = to_onnx(graph, [node], [name for name in node.outputs if name])
        results = run_model(part, {value.name: values[value.name] for value in part.graph.input})
        values.update(zip([name for name in node.outputs if name], results, strict=True))
    return values


def outputs_in_numpy(graph: Graph, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a graph in normal form."""
    values = run_in_numpy(graph, feeds)
    return [values[name] for name in graph.outputs]
