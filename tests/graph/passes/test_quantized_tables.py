"""Tests are named after the rules of passes/quantized_tables.py."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graph_tools import run_model
from quantized_graphs import QdqFile, check_steps, integer_ops, outputs_in_numpy, read
from secateur.graph.quantized import Grid

X, Y, GATE = Grid(0.05, 120, "uint8"), Grid(0.04, 10, "uint8"), Grid(1 / 255, 0, "uint8")
SIDES = {"x": (2, 3, 4, 5)}


def test_rule_1_a_function_of_a_function():
    file = QdqFile()
    file.between(file.op("Tanh", file.between(file.op("Sigmoid", file.between("x", X)), GATE)), Y, "y")
    assert integer_ops(check_steps(file.model(SIDES), Y.scale)) == ["Quantize", "QActivate", "Dequantize"]


def test_rule_2_a_value_times_its_gate():
    for operator in ("Mul", "Add"):
        file = QdqFile()
        x = file.between("x", X)
        file.between(file.op(operator, x, file.between(file.op("Sigmoid", x), GATE)), Y, "y")
        assert integer_ops(check_steps(file.model(SIDES), Y.scale)) == ["Quantize", "QActivate", "Dequantize"]


def test_rule_2_two_functions_of_one_value():
    file = QdqFile()
    x = file.between("x", X)
    parts = [file.between(file.op(operator, x), GATE) for operator in ("Sigmoid", "HardSigmoid")]
    file.between(file.op("Mul", *parts), Y, "y")
    assert integer_ops(check_steps(file.model(SIDES), Y.scale)) == ["Quantize", "QActivate", "Dequantize"]


def test_rule_2_values_of_different_sources_are_left_alone():
    file = QdqFile()
    x, z = file.between("x", X), file.between("z", X)
    file.between(file.op("Mul", x, file.between(file.op("Sigmoid", z), GATE)), Y, "y")
    ops = integer_ops(check_steps(file.model(SIDES | {"z": (2, 3, 4, 5)}), Y.scale))
    assert sorted(ops) == ["Dequantize", "QActivate", "QMul", "Quantize", "Quantize"]


def test_rule_3_a_table_that_somebody_else_reads():
    file = QdqFile()
    x = file.between("x", X)
    gate = file.between(file.op("Sigmoid", x), GATE)
    both = file.between(file.op("Mul", x, gate), Y)
    file.between(file.op("Concat", both, gate, axis=1), Y, "y")
    ops = integer_ops(check_steps(file.model(SIDES), Y.scale))
    assert ops.count("QActivate") == 2 and "QMul" not in ops


scales = st.floats(2**-7, 2**-3, width=32)


@given(x_scale=scales, gate_scale=scales, y_scale=scales, operator=st.sampled_from(["Mul", "Add"]))
def test_a_table_is_what_qdq_says_bit_for_bit(x_scale: float, gate_scale: float, y_scale: float, operator: str):
    x, gate, y = Grid(x_scale, 120, "uint8"), Grid(gate_scale, 0, "int8"), Grid(y_scale, 30, "uint8")
    file = QdqFile()
    value = file.between("x", x)
    file.quantize(file.op(operator, value, file.between(file.op("HardSigmoid", value), gate)), y, "y")
    model = file.model({"x": (1, 1, 16, 16)})
    every = (np.arange(-120, 136).reshape(1, 1, 16, 16) * np.float32(x_scale)).astype(np.float32)
    graph = read(model)
    assert "QActivate" in integer_ops(graph)
    assert np.array_equal(outputs_in_numpy(graph, {"x": every})[0], run_model(model, {"x": every})[0])
