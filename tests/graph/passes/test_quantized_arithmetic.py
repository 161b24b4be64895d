"""Tests are named after the rules of passes/quantized_arithmetic.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantized_graphs import QdqFile, check_steps, integer_ops, read
from secateur.graph.quantized import Grid

A, B, Y = Grid(0.05, 120, "uint8"), Grid(0.04, -3, "int8"), Grid(0.1, 100, "uint8")
SIDES = {"a": (2, 3, 4, 5), "b": (2, 3, 4, 5)}


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("activation", [None, "Relu", "HardSwish"])
def test_two_quantized_values(op: str, activation: str | None):
    file = QdqFile()
    value = file.op(op, file.between("a", A), file.between("b", B))
    file.between(file.op(activation, value) if activation else value, Y, "y")
    graph = check_steps(file.model(SIDES), Y.scale, share=0.85)
    assert integer_ops(graph) == ["Quantize", "Quantize", f"Q{op}", "Dequantize"]


@settings(max_examples=25)
@given(op=st.sampled_from(["Add", "Mul"]), zeros=st.tuples(*[st.integers(0, 255)] * 3), seed=st.integers(0, 99))
def test_every_zero_point(op: str, zeros: tuple[int, int, int], seed: int):
    file = QdqFile()
    a, b, y = (Grid(scale, zero, "uint8") for scale, zero in zip((0.05, 0.02, 0.1), zeros, strict=True))
    file.between(file.op(op, file.between("a", a), file.between("b", b)), y, "y")
    check_steps(file.model(SIDES), y.scale, seed=seed, share=0.8)


def test_the_gate_of_squeeze_and_excitation_is_broadcast():
    file = QdqFile()
    file.between(file.op("Mul", file.between("a", A), file.between("b", B)), Y, "y")
    graph = check_steps(file.model({"a": (2, 3, 4, 5), "b": (2, 3, 1, 1)}), Y.scale, share=0.85)
    assert "QMul" in integer_ops(graph)


def test_rule_1_another_reader_of_the_float_result():
    file = QdqFile()
    file.between(file.op("Add", file.between("a", A), file.between("b", B), out="z"), Y, "y")
    assert "QAdd" not in integer_ops(read(file.model(SIDES, "y z")))


def test_one_float_operand_stays_float():
    file = QdqFile()
    file.between(file.op("Add", file.between("a", A), "b"), Y, "y")
    graph = check_steps(file.model(SIDES), Y.scale)
    assert "Add" in integer_ops(graph)


def test_a_constant_per_channel_stays_float():
    file = QdqFile()
    constant = file.constant(np.linspace(-1, 1, 3).astype(np.float32).reshape(3, 1, 1))
    file.between(file.op("Mul", file.between("a", A), constant), Y, "y")
    graph = check_steps(file.model({"a": (2, 3, 4, 5)}), Y.scale)
    assert "Mul" in integer_ops(graph) and "there is no Mul on integers" in graph.notes.values()
