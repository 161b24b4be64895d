"""Constant weights behind whatever a file puts between integers and convolution."""

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

from quantized_graphs import QdqFile
from secateur.graph.load import load_graph
from secateur.graph.passes.fold_constants import fold_constants_but_weights
from secateur.graph.passes.normal_layout import normal_layout
from secateur.graph.quantized.sources import Sources, Weight, constant_pair, weight_of
from secateur.graph.rewrite import Draft

INTEGERS = np.arange(-12, 12, dtype=np.int8).reshape(4, 6)
SCALES = np.array([0.5, 0.25, 1, 2], np.float32)


def weight(file: QdqFile, name: str, rows: int, sides: tuple[int, ...] = (1, 6)) -> Weight | str:
    file.op("MatMul", "x", name, out="y")
    graph = normal_layout(fold_constants_but_weights(load_graph(file.model({"x": sides}))))
    return Sources(graph).weight(Draft(graph), name, rows)


def dequantized(file: QdqFile, values: np.ndarray, *numbers: np.ndarray, **attributes: Any) -> str:
    return file.op("DequantizeLinear", file.constant(values), *map(file.constant, numbers), **attributes)


def test_scales_of_rows():
    file = QdqFile()
    found = weight(file, dequantized(file, INTEGERS.T.copy(), SCALES, axis=1), 1)
    assert isinstance(found, Weight)
    assert np.array_equal(found.values, INTEGERS) and np.array_equal(found.scale, SCALES)


def test_moves_in_between():
    file = QdqFile()
    name = dequantized(file, INTEGERS.reshape(4, 2, 3), SCALES, np.zeros(4, np.int8), axis=0)
    name = file.op("Reshape", name, file.constant(np.array([4, 6])))
    found = weight(file, file.op("Transpose", name, perm=[1, 0]), 1)
    assert isinstance(found, Weight)
    assert np.array_equal(found.values, INTEGERS) and np.array_equal(found.scale, SCALES)


def test_one_scale_for_all_rows():
    file = QdqFile()
    found = weight(file, dequantized(file, INTEGERS.T.copy(), np.float32(0.5), np.int8(2)), 1)
    assert isinstance(found, Weight)
    assert np.array_equal(found.values, INTEGERS - 2) and found.scale.tolist() == [0.5] * 4


def test_four_bits():
    file = QdqFile(opset=21)
    values = np.clip(INTEGERS.T, -8, 7).astype(ml_dtypes.int4)
    found = weight(file, dequantized(file, values, SCALES, axis=1), 1)
    assert isinstance(found, Weight) and np.array_equal(found.values, np.clip(INTEGERS, -8, 7))


@pytest.mark.parametrize(
    ("scale", "zero", "axis", "reason"),
    [
        (np.arange(1, 7, dtype=np.float32), np.zeros(6, np.int8), 0, "along another side"),
        (-SCALES, np.zeros(4, np.int8), 1, "no positive float32"),
        (np.full(4, np.nan, np.float32), np.zeros(4, np.int8), 1, "no positive float32"),
        (np.ones(3, np.float32), np.zeros(3, np.int8), 1, "another shape than one per output"),
        (SCALES, np.full(4, 120, np.int8), 1, "does not fit into 8 bits"),
    ],
)
def test_what_is_no_weight(scale: np.ndarray, zero: np.ndarray, axis: int, reason: str):
    graph = load_graph(stored(INTEGERS.T.copy(), scale, zero))
    pair = constant_pair(Draft(graph), "w", "s", "z", axis)
    found = pair if isinstance(pair, str) else weight_of(pair, 1)
    assert isinstance(found, str) and reason in found


def stored(values: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> onnx.ModelProto:
    """A model that holds constants."""
    file = QdqFile()
    file.constants |= {"w": values, "s": scale, "z": zero}
    file.op("Identity", "x", out="y")
    for name in "wsz":
        file.op("Shape", name, out=f"{name}.shape")
    return file.model({"x": (1,)}, "y w.shape s.shape z.shape")


def test_a_computed_scale():
    file = QdqFile()
    name = file.op("DequantizeLinear", file.constant(INTEGERS.T.copy()), "s", file.constant(np.int8(0)))
    file.op("MatMul", "x", name, out="y")
    graph = fold_constants_but_weights(load_graph(file.model({"x": (1, 6), "s": ()})))
    assert "is no constant" in Sources(graph).weight(Draft(graph), name, 1)
