"""Tests are named after the rules of passes/quantized_activation.py."""

import numpy as np
import pytest

from graph_tools import only
from quantized_graphs import QdqFile, check_steps, integer_ops, read
from secateur.graph.quantized import Grid

X, Y = Grid(0.05, 120, "uint8"), Grid(0.04, 10, "uint8")
SIGNED = Grid(0.05, -20, "int8")
SIDES = {"x": (2, 3, 4, 5)}


@pytest.mark.parametrize("x", [X, SIGNED])
@pytest.mark.parametrize("op", ["HardSwish", "Sigmoid", "Tanh", "Relu", "Elu", "Exp"])
def test_rule_1_functions_of_one_number(op: str, x: Grid):
    file = QdqFile()
    file.between(file.op(op, file.between("x", x)), Y, "y")
    graph = check_steps(file.model(SIDES), Y.scale, share=0.99)
    assert integer_ops(graph) == ["Quantize", "QActivate", "Dequantize"]
    assert only(graph, "QActivate").attributes["table"].shape == (256,)


def test_rule_1_a_hard_swish_that_is_spelled_out():
    file = QdqFile()
    x = file.between("x", X)
    six, three, zero = (file.constant(np.float32(number)) for number in (6, 3, 0))
    value = file.op("Div", file.op("Mul", x, file.op("Clip", file.op("Add", x, three), zero, six)), six)
    file.between(value, Y, "y")
    assert integer_ops(check_steps(file.model(SIDES), Y.scale)) == ["Quantize", "QActivate", "Dequantize"]


def test_rule_1_a_gate_with_q_and_dq_after_every_step():
    file = QdqFile()
    three, sixth = (file.constant(np.float32(number)) for number in (3, 1 / 6))
    value = file.between(file.op("Add", file.between("x", X), three), Grid(0.05, 60, "uint8"))
    value = file.between(
        file.op("Clip", value, file.constant(np.float32(0)), file.constant(np.float32(6))), Grid(6 / 255, 0, "uint8")
    )
    file.between(file.op("Mul", value, sixth), Grid(1 / 255, 0, "uint8"), "y")
    graph = check_steps(file.model(SIDES), 1 / 255)
    assert set(integer_ops(graph)) == {"Quantize", "QActivate", "Dequantize"}


def test_rule_1_a_constant_that_widens_the_shape_is_no_function():
    file = QdqFile()
    value = file.op("Mul", file.between("x", X), file.constant(np.full((1, 1, 1, 1), 0.5, np.float32)))
    file.between(value, Y, "y")
    assert "QActivate" not in integer_ops(check_steps(file.model({"x": (4, 5)}), Y.scale))


def test_rule_2_other_numbers():
    file = QdqFile()
    file.between(file.between("x", X), SIGNED, "y")
    assert integer_ops(check_steps(file.model(SIDES), SIGNED.scale)) == ["Quantize", "QActivate", "Dequantize"]


def test_rule_2_nothing_changes():
    file = QdqFile()
    value = file.between(file.between(file.between("x", X), X), X)
    file.between(file.op("Clip", value, file.constant(np.float32(-100)), file.constant(np.float32(100))), X, "y")
    assert integer_ops(check_steps(file.model(SIDES), X.scale)) == ["Quantize", "Dequantize"]


def test_rule_3_another_reader_in_between():
    file = QdqFile()
    file.between(file.op("Sigmoid", file.between("x", X), out="z"), Y, "y")
    assert "QActivate" not in integer_ops(read(file.model(SIDES, "y z")))
