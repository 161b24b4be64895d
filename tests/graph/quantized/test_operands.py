"""Counting quantized files: a zero is what equals its zero point, scales are no parameters, weights have bits."""

import numpy as np
import pytest

from quantized_graphs import QdqFile
from secateur.graph.census import Census
from secateur.graph.onnx_census import census_of_onnx
from secateur.graph.quantized import Grid

X, Y = Grid(0.05, 120, "uint8"), Grid(0.3, 100, "uint8")
SIDES = {"x": (1, 4, 7, 6)}
KERNEL = (5, 4, 3, 3)


def values(zero: int, dtype: str) -> np.ndarray:
    """60 of 180 weights are zero."""
    return (np.where(np.arange(180) % 3 == 0, 0, 7).reshape(KERNEL) + zero).astype(dtype)


def weight(file: QdqFile, zero: int, dtype: str, rows: bool) -> tuple[str, str, str]:
    count = (5,) if rows else ()
    arrays = values(zero, dtype), np.full(count, 0.01, np.float32), np.full(count, zero, dtype)
    return tuple(file.constant(array) for array in arrays)  # pyright: ignore[reportReturnType]


def check(counts: Census, bits: int = 8) -> None:
    (layer,) = counts.layers
    assert (layer.shape, layer.weights, layer.nonzeros, layer.bits) == (KERNEL, 180, 120, bits)
    assert layer.bytes == counts.bytes == 180 * bits // 8
    assert counts.parameters == 180 + 5
    assert layer.macs == 180 * 5 * 4


@pytest.mark.parametrize(("zero", "dtype"), [(0, "int8"), (128, "uint8")])
@pytest.mark.parametrize("rows", [False, True])
def test_qdq(zero: int, dtype: str, rows: bool):
    file = QdqFile()
    w = file.op("DequantizeLinear", *weight(file, zero, dtype, rows), **({"axis": 0} if rows else {}))
    scale = file.constant(np.full(5, 0.0005, np.float32))
    bias = file.op("DequantizeLinear", file.constant(np.arange(5, dtype=np.int32)), scale, axis=0)
    file.between(file.op("Conv", file.between("x", X), w, bias, kernel_shape=[3, 3]), Y, "y")
    check(census_of_onnx(file.model(SIDES)))


@pytest.mark.parametrize(("zero", "dtype"), [(0, "int8"), (128, "uint8")])
@pytest.mark.parametrize("rows", [False, True])
def test_qlinearconv(zero: int, dtype: str, rows: bool):
    file = QdqFile()
    operands = (file.quantize("x", X), *file.numbers(X), *weight(file, zero, dtype, rows), *file.numbers(Y))
    q = file.op("QLinearConv", *operands, file.constant(np.arange(5, dtype=np.int32)))
    file.dequantize(q, Y, "y")
    check(census_of_onnx(file.model(SIDES)))


def test_a_float_weight_that_is_rounded_when_it_is_loaded():
    file = QdqFile()
    w = file.between(file.constant(values(0, "float32")), Grid(0.5, 0, "int8"))
    file.op("Conv", file.between("x", X), w, file.constant(np.ones(5, np.float32)), kernel_shape=[3, 3], out="y")
    check(census_of_onnx(file.model(SIDES)))


def test_float_files_count_as_before():
    file = QdqFile()
    file.op(
        "Conv",
        "x",
        file.constant(values(0, "float32")),
        file.constant(np.ones(5, np.float32)),
        kernel_shape=[3, 3],
        out="y",
    )
    counts = census_of_onnx(file.model(SIDES))
    check(counts, 32)
    assert "bits" not in str(counts)


@pytest.mark.parametrize("swapped", [0, 1])
def test_products_of_integers(swapped: int):
    """A zero point for each output, whichever way round the matrix is stored."""
    points = np.arange(6, dtype=np.int8)
    matrix = np.tile(points[:, None], (1, 20)) + (np.arange(20) % 4 == 0)
    stored = matrix if swapped else matrix.T
    file = QdqFile()
    operands = (file.quantize("x", X), *file.numbers(X), file.constant(stored.astype(np.int8)))
    numbers = (file.constant(np.full(6, 0.01, np.float32)), file.constant(points), "", *file.numbers(Y))
    file.dequantize(file.op("QGemm", *operands, *numbers, domain="com.microsoft", transB=swapped), Y, "y")
    (layer,) = census_of_onnx(file.model({"x": (1, 20)})).layers
    assert (layer.shape, layer.nonzeros, layer.bits, layer.macs) == ((6, 20), 30, 8, 120)


def test_the_table_says_bits_and_bytes():
    file = QdqFile()
    w = file.op("DequantizeLinear", *weight(file, 0, "int8", False))
    file.op("Conv", file.between("x", X), w, kernel_shape=[3, 3], out="y")
    counts = census_of_onnx(file.model(SIDES))
    assert "weights take 180 bytes, zeros included: 180 of 8 bits" in str(counts)
    assert Census.from_dict(counts.to_dict()) == counts
