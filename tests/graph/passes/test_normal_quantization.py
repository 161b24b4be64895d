"""Tests are named after the rules of passes/normal_quantization.py."""

import numpy as np
import pytest
from onnx import TensorProto

from graph_tools import only
from quantized_graphs import QdqFile, check_steps, integer_ops, read
from secateur.graph.quantized import Grid

SIDES = {"x": (2, 3, 4)}


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
@pytest.mark.parametrize("grid", [Grid(0.05, 7, "uint8"), Grid(0.05, -7, "int8")])
def test_rule_1_q_and_dq(grid: Grid, domain: str):
    file = QdqFile()
    numbers = file.numbers(grid)
    value = file.op("QuantizeLinear", "x", *numbers, domain=domain)
    file.op("Sin", file.op("DequantizeLinear", value, *numbers, domain=domain), out="y")
    graph = check_steps(file.model(SIDES), 1e-4)
    assert integer_ops(graph) == ["Quantize", "Dequantize", "[Sin]"]
    assert only(graph, "Quantize").attributes == {
        "scale": float(np.float32(0.05)),
        "zero": grid.zero,
        "dtype": grid.dtype,
    }


def test_rule_1_no_zero_point_and_scales_of_one_element():
    file = QdqFile()
    scale = file.constant(np.array([0.1], np.float32))
    file.op("QuantizeLinear", "x", scale, out="y", axis=0)
    graph = read(file.model(SIDES))
    # ONNX has scales of one element along an axis of one element only; they are one scale all the same.
    assert integer_ops(graph) == ["Quantize"] and only(graph, "Quantize").attributes["dtype"] == "uint8"


def test_rule_1_the_type_stands_in_an_attribute():
    file = QdqFile(opset=21)
    scale = file.constant(np.float32(0.1))
    file.op("QuantizeLinear", "x", scale, output_dtype=TensorProto.INT8, out="y")
    assert only(read(file.model(SIDES)), "Quantize").attributes["dtype"] == "int8"


@pytest.mark.parametrize("scale", [0.0, -0.1, np.inf, np.nan])
def test_rule_1_scales_that_are_none(scale: float):
    file = QdqFile()
    numbers = file.constant(np.float32(scale)), file.constant(np.array(3, np.uint8))
    file.op("DequantizeLinear", file.op("QuantizeLinear", "x", *numbers), *numbers, out="y")
    assert integer_ops(read(file.model(SIDES))) == ["[QuantizeLinear]", "[DequantizeLinear]"]


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_rule_1_16_bits_stay(domain: str):
    file = QdqFile(opset=21)
    numbers = file.constant(np.float32(0.001)), file.constant(np.array(3, np.uint16))
    value = file.op("QuantizeLinear", "x", *numbers, domain=domain)
    value = file.op("DequantizeLinear", value, *numbers, domain=domain)
    file.op("MatMul", value, file.weight((4, 5), 1), out="y")
    graph = check_steps(file.model(SIDES), 1e-3)
    assert integer_ops(graph) == ["[QuantizeLinear]", "[DequantizeLinear]", "Linear"]
    assert "its input is not quantized with one constant scale" in graph.notes.values()


def test_rule_2_constants_are_folded():
    file = QdqFile()
    constant = file.between(file.constant(np.linspace(-1, 1, 4).astype(np.float32)), Grid(0.1, 20, "uint8"))
    file.op("Sub", "x", constant, out="y")
    graph = check_steps(file.model(SIDES), 1e-4)
    assert integer_ops(graph) == ["Sub"]
    assert np.allclose(graph.constants[only(graph, "Sub").inputs[1]] * 10 % 1, 0, atol=1e-5)


def test_integers_at_the_border():
    file = QdqFile()
    x = Grid(0.05, 7, "uint8")
    value = file.op("Conv", file.between("x", x), file.weight((3, 3, 1, 1)), kernel_shape=[1, 1])
    file.quantize(value, Grid(0.1, 100, "uint8"), "y")
    graph = read(file.model({"x": (1, 3, 4, 4)}))
    assert integer_ops(graph) == ["Quantize", "QConv"] and graph.type("y").dtype == "uint8"
