"""Tests are named after the rules of passes/quantized_concat.py."""

import pytest

from quantized_graphs import QdqFile, check_steps, integer_ops, read
from secateur.graph.quantized import Grid

A, B, Y = Grid(0.05, 120, "uint8"), Grid(0.03, 100, "uint8"), Grid(0.06, 110, "uint8")
SIDES = {"a": (2, 3, 4, 5), "b": (2, 2, 4, 5)}


@pytest.mark.parametrize(("b", "y", "wanted"), [(A, A, "Concat"), (B, Y, "QConcat"), (B, A, "QConcat")])
def test_parts_of_equal_and_of_other_numbers(b: Grid, y: Grid, wanted: str):
    file = QdqFile()
    value = file.op("Concat", file.between("a", A), file.between("b", b), axis=1)
    file.between(value, y, "y")
    graph = check_steps(file.model(SIDES), y.scale, share=0.85)
    assert integer_ops(graph) == ["Quantize", "Quantize", wanted, "Dequantize"]


def test_rule_1_a_float_result_of_equal_numbers_is_dequantized_behind():
    file = QdqFile()
    file.op("Concat", file.between("a", A), file.between("b", A), axis=1, out="y")
    assert integer_ops(check_steps(file.model(SIDES), A.scale)) == ["Quantize", "Quantize", "Concat", "Dequantize"]


def test_rule_1_a_float_result_of_other_numbers_stays_float():
    file = QdqFile()
    file.op("Concat", file.between("a", A), file.between("b", B), axis=1, out="y")
    ops = integer_ops(read(file.model(SIDES)))
    assert sorted(ops) == ["Concat", "Dequantize", "Dequantize", "Quantize", "Quantize"]


def test_float_parts_are_quantized_first():
    file = QdqFile()
    parts = [file.op("Exp", name) for name in ("a", "b")]
    file.between(file.op("Concat", *parts, axis=1), Y, "y")
    graph = check_steps(file.model(SIDES), Y.scale)
    assert sorted(integer_ops(graph)) == ["Activate", "Activate", "Concat", "Dequantize", "Quantize", "Quantize"]
