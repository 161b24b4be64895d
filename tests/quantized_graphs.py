"""Quantized graphs in numpy: the oracle for everything that runs them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from graph_tools import feeds_of, model_of, run_model
from secateur.graph.ir import Graph
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify
from secateur.graph.quantized import Grid, compute
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


class QdqFile:
    """A file with Q and DQ, written by hand. Methods return the name of the value that they write."""

    def __init__(self, opset: int = 17) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def op(self, op: str, *inputs: str, domain: str = "", out: str | None = None, **attributes: Any) -> str:
        """One operator with one output."""
        name = out or f"v{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op, inputs, [name], name=f"{op}_{len(self.nodes)}", domain=domain, **attributes)
        )
        return name

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def numbers(self, grid: Grid) -> tuple[str, str]:
        """Scale and zero point."""
        return self.constant(np.float32(grid.scale)), self.constant(np.array(grid.zero, grid.dtype))

    def quantize(self, x: str, grid: Grid, out: str | None = None) -> str:
        return self.op("QuantizeLinear", x, *self.numbers(grid), out=out)

    def dequantize(self, q: str, grid: Grid, out: str | None = None) -> str:
        return self.op("DequantizeLinear", q, *self.numbers(grid), out=out)

    def between(self, x: str, grid: Grid, out: str | None = None) -> str:
        """Q and DQ."""
        return self.dequantize(self.quantize(x, grid), grid, out)

    def weight(
        self, shape: tuple[int, ...], axis: int | None = 0, seed: int = 0, dtype: str = "int8", zero: int = 0
    ) -> str:
        """A dequantized weight of random integers."""
        rng = np.random.default_rng((seed, *shape))
        values = (rng.integers(-127, 128, shape) + zero).astype(dtype)
        count = () if axis is None else (shape[axis],)
        scale = self.constant(rng.uniform(0.002, 0.01, count).astype(np.float32))
        attributes = {} if axis is None else {"axis": axis}
        return self.op(
            "DequantizeLinear", self.constant(values), scale, self.constant(np.full(count, zero, dtype)), **attributes
        )

    def bias(self, x_scale: float, weight: str, seed: int = 0) -> str:
        """A dequantized int32 bias with the scale that it should have."""
        scales = self.constants[next(node for node in self.nodes if node.output[0] == weight).input[1]]
        values = np.random.default_rng(seed).integers(-3000, 3000, scales.shape).astype(np.int32)
        scale = self.constant(np.float32(x_scale) * scales)
        return self.op("DequantizeLinear", self.constant(values), scale, axis=0)

    def model(self, inputs: dict[str, tuple[int, ...]], outputs: str = "y") -> onnx.ModelProto:
        model = model_of(self.nodes, inputs, self.constants, outputs, self.opset)
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return model


def read(model: onnx.ModelProto) -> Graph:
    """The graph of a file in normal form."""
    return simplify(load_graph(model))


def integer_ops(graph: Graph) -> list[str]:
    """Operators in order; those of ONNX in brackets."""
    return [node.op if node.domain == "secateur" else f"[{node.op}]" for node in graph.nodes]


def check_steps(model: onnx.ModelProto, step: float, *, seed: int = 0, most: int = 1, share: float = 0.9) -> Graph:
    """Read a file and compare with what it says, operator by operator in floats.

    step     distance of the outputs' numbers: how far apart results may be, `most` times
    share    of outputs that have to be equal
    """
    graph = read(model)
    feeds = feeds_of(graph, seed)
    wanted = run_model(model, feeds)
    expanded = run_model(to_onnx(graph), feeds)
    for found, expected, spelled in zip(outputs_in_numpy(graph, feeds), wanted, expanded, strict=True):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        assert np.array_equal(found, spelled) or (found.dtype == np.float32 and np.allclose(found, spelled, atol=1e-5))
        distance = np.abs(found.astype(np.float64) - expected) / step
        assert distance.max() <= most + 1e-3
        assert np.mean(distance < 1e-3) >= share
    return graph
