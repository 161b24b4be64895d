"""Tests are named after the rules of passes/quantized_channels.py."""

import numpy as np

from quantized_graphs import QdqFile, check_steps, integer_ops, read
from secateur.graph.quantized import Grid

SIDES = {"x": (2, 4, 5, 6)}
SCALES = np.linspace(0.01, 0.05, 4).astype(np.float32)


def both(zeros: np.ndarray) -> QdqFile:
    """Q and DQ along the channels, between functions of floats."""
    file = QdqFile()
    scale, zero = file.constant(SCALES), file.constant(zeros)
    q = file.op("QuantizeLinear", file.op("Sin", "x"), scale, zero, axis=1)
    file.op("Cos", file.op("DequantizeLinear", q, scale, zero, axis=1), out="y")
    return file


def test_scales_stand_beside():
    graph = check_steps(both(np.full(4, 3, np.int8)).model(SIDES), 0.05)
    assert integer_ops(graph) == ["[Sin]", "ScaleShift", "Quantize", "Dequantize", "ScaleShift", "[Cos]"]


def test_rule_1_other_zero_points_stay():
    graph = read(both(np.arange(4, dtype=np.int8)).model(SIDES))
    assert integer_ops(graph) == ["[Sin]", "[QuantizeLinear]", "[DequantizeLinear]", "[Cos]"]


def test_behind_a_convolution_whose_activation_is_no_bound():
    file = QdqFile()
    x = file.between("x", Grid(0.05, 120, "uint8"))
    value = file.op("HardSwish", file.op("Conv", x, file.weight((4, 4, 1, 1)), kernel_shape=[1, 1]))
    scale, zero = file.constant(SCALES), file.constant(np.zeros(4, np.uint8))
    q = file.op("QuantizeLinear", value, scale, zero, axis=1)
    value = file.op("DequantizeLinear", q, scale, zero, axis=1)
    file.op("Conv", value, file.weight((4, 1, 3, 3)), group=4, kernel_shape=[3, 3], out="y")
    graph = check_steps(file.model(SIDES), 0.05, share=0.5)
    assert integer_ops(graph) == ["Quantize", "QConv", "ScaleShift", "Quantize", "QConv"]
