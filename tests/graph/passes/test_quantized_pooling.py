"""Tests are named after the rules of passes/quantized_pooling.py."""

import numpy as np
import pytest

from graph_tools import only, run_model
from quantized_graphs import QdqFile, check_steps, integer_ops, outputs_in_numpy, read
from secateur.graph.quantized import Grid

X, Y = Grid(0.05, 120, "uint8"), Grid(0.04, 90, "uint8")
SIDES = {"x": (2, 3, 7, 8)}
WINDOW = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 1, 1, 0]}


@pytest.mark.parametrize("y", [X, Y])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"])
def test_pools(op: str, y: Grid):
    file = QdqFile()
    value = file.op(op, file.between("x", X), **({} if op.startswith("Global") else WINDOW))
    file.between(value, y, "y")
    graph = check_steps(file.model(SIDES), y.scale, share=0.8)
    name = "QGlobalPool" if op.startswith("Global") else "QPool"
    assert integer_ops(graph) == ["Quantize", name, "Dequantize"]


@pytest.mark.parametrize("opset", [13, 19])
@pytest.mark.parametrize(("sides", "pads"), [((7, 1), [0, 0, 0, 1]), ((7, 6), [0] * 4), ((6, 8), [1] * 4)])
def test_averages_that_end_behind_counted_padding(opset: int, sides: tuple[int, int], pads: list[int]):
    file = QdqFile(opset)
    window = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": pads, "ceil_mode": 1, "count_include_pad": 1}
    file.between(file.op("AveragePool", file.between("x", X), **window), Y, "y")
    graph = check_steps(file.model({"x": (2, 3, *sides)}), Y.scale, share=0.8)
    assert integer_ops(graph) == ["Quantize", "QPool", "Dequantize"]


def test_a_mean_over_the_sides_and_its_reshape():
    file = QdqFile()
    value = file.op("ReduceMean", file.between("x", X), axes=[2, 3], keepdims=0)
    file.between(value, Y, "y")
    graph = check_steps(file.model(SIDES), Y.scale)
    assert integer_ops(graph) == ["Quantize", "QGlobalPool", "Reshape", "Dequantize"]


def test_rule_1_a_float_result_stays_float():
    file = QdqFile()
    file.op("GlobalAveragePool", file.between("x", X), out="y")
    graph = check_steps(file.model(SIDES), 1e-2)
    assert integer_ops(graph) == ["Quantize", "Dequantize", "GlobalPool"]
    assert "its result is not quantized" in graph.notes.values()


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_rule_2_maximum_of_integers(dtype: str):
    file = QdqFile()
    grid = Grid(0.05, 20, dtype)
    file.dequantize(file.op("MaxPool", file.quantize("x", grid), **WINDOW), grid, "y")
    model = file.model(SIDES)
    graph = read(model)
    assert integer_ops(graph) == ["Quantize", "QPool", "Dequantize"]
    x = {"x": np.random.default_rng(0).standard_normal(SIDES["x"]).astype(np.float32)}
    assert np.array_equal(outputs_in_numpy(graph, x)[0], run_model(model, x)[0])
    assert only(graph, "QPool").attributes["x_scale"] == only(graph, "QPool").attributes["y_scale"]
