"""Tests are named after the rules of passes/quantized_linear.py."""

import numpy as np
import pytest

from graph_tools import only
from quantized_graphs import QdqFile, check_steps, integer_ops, read
from secateur.graph.quantized import Grid

X, Y = Grid(0.05, 120, "uint8"), Grid(0.2, 100, "uint8")
SIDES = {"x": (3, 20)}


@pytest.mark.parametrize("axis", [None, "outputs"])
@pytest.mark.parametrize("swapped", [0, 1])
def test_rule_2_gemm(swapped: int, axis: str | None):
    file = QdqFile()
    shape, outputs = ((6, 20), 0) if swapped else ((20, 6), 1)
    weight = file.weight(shape, None if axis is None else outputs)
    bias = file.constant(np.linspace(-3, 3, 6).astype(np.float32))
    file.between(file.op("Gemm", file.between("x", X), weight, bias, transB=swapped), Y, "y")
    graph = check_steps(file.model(SIDES), Y.scale)
    assert integer_ops(graph) == ["Quantize", "QLinear", "Dequantize"]
    assert graph.shape(only(graph, "QLinear").inputs[1]) == (6, 20)


@pytest.mark.parametrize("moved", [False, True])
def test_rule_1_matmul_and_its_bias_and_activation(moved: bool):
    file = QdqFile()
    weight = file.weight((6, 20), 0) if moved else file.weight((20, 6), 1)
    weight = file.op("Transpose", weight, perm=[1, 0]) if moved else weight
    value = file.op("MatMul", file.between("x", X), weight)
    value = file.op("Relu", file.op("Add", file.constant(np.linspace(-3, 3, 6).astype(np.float32)), value))
    file.between(value, Y, "y")
    graph = check_steps(file.model({"x": (2, 5, 20)}), Y.scale)
    assert integer_ops(graph) == ["Quantize", "QLinear", "Dequantize"]


def test_rule_1_float_result():
    file = QdqFile()
    file.op("Gemm", file.between("x", X), file.weight((6, 20), 0), transB=1, out="y")
    graph = check_steps(file.model(SIDES), 1e-2)
    assert integer_ops(graph) == ["Quantize", "QLinear"]


def test_rule_1_scales_along_the_inputs_stay_float():
    file = QdqFile()
    file.between(file.op("MatMul", file.between("x", X), file.weight((20, 6), 0)), Y, "y")
    graph = check_steps(file.model(SIDES), Y.scale)
    assert "Linear" in integer_ops(graph)
    assert "its weight has scales along another side than its outputs" in graph.notes.values()


def test_rule_1_products_of_two_values_stay_float():
    file = QdqFile()
    file.between(file.op("MatMul", file.between("x", X), file.between("z", X)), Y, "y")
    graph = check_steps(file.model({**SIDES, "z": (20, 3)}), Y.scale)
    assert "MatMul" in integer_ops(graph) and "its weight is computed while the network runs" in graph.notes.values()


@pytest.mark.parametrize("attributes", [{"alpha": 0.5}, {"beta": 2.0}])
def test_rule_2_factors_stay_float(attributes: dict[str, float]):
    file = QdqFile()
    bias = file.constant(np.ones(6, np.float32))
    file.between(file.op("Gemm", file.between("x", X), file.weight((20, 6), 1), bias, **attributes), Y, "y")
    graph = check_steps(file.model(SIDES), Y.scale)
    assert "Linear" in integer_ops(graph)


def test_rule_2_a_matrix_that_is_added_stays_float():
    file = QdqFile()
    bias = file.constant(np.ones((3, 6), np.float32))
    file.op("Gemm", file.between("x", X), file.weight((20, 6), 1), bias, out="y")
    assert "it adds another matrix" in read(file.model(SIDES)).notes.values()
