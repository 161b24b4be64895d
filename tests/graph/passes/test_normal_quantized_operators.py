"""Tests are named after the rules of passes/normal_quantized_operators.py; ONNX Runtime's operators are the oracle."""

import numpy as np
import pytest
from onnx import helper

from graph_tools import feeds_of, only, run_model
from quantized_graphs import QdqFile, integer_ops, outputs_in_numpy, read
from secateur.graph.ir import Graph
from secateur.graph.quantized import Grid

X, Y = Grid(0.05, 120, "uint8"), Grid(0.3, 100, "uint8")
ZERO_TO_ONE = Grid(1 / 255, 0, "uint8")
RUNTIME = "com.microsoft"


def compared(file: QdqFile, sides: dict[str, tuple[int, ...]], steps: int = 0) -> Graph:
    """The graph, whose outputs are ONNX Runtime's up to so many steps of the integers."""
    model = file.model(sides)
    graph = read(model)
    feeds = feeds_of(graph)
    for found, wanted in zip(outputs_in_numpy(graph, feeds), run_model(model, feeds), strict=True):
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        if found.dtype == np.float32:
            assert np.allclose(found, wanted, rtol=1e-5, atol=1e-4)
        else:
            assert np.abs(found.astype(int) - wanted.astype(int)).max() <= steps
    return graph


def weights(
    file: QdqFile, *shape: int, rows: int | None = 0, dtype: str = "int8", zero: int = 0
) -> tuple[str, str, str]:
    """Integers, scales, zero points."""
    rng = np.random.default_rng(shape)
    count = () if rows is None else (shape[rows],)
    values = (rng.integers(-60, 60, shape) + zero).astype(dtype)
    scale = rng.uniform(0.002, 0.01, count).astype(np.float32)
    return file.constant(values), file.constant(scale), file.constant(np.full(count, zero, dtype))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rows", [None, 0])
def test_rule_2_qlinearconv(rows: int | None, biased: bool):
    file = QdqFile()
    bias = [file.constant(np.arange(-2, 3, dtype=np.int32) * 900)] if biased else []
    operands = (file.quantize("x", X), *file.numbers(X), *weights(file, 5, 4, 3, 3, rows=rows), *file.numbers(Y), *bias)
    file.op("QLinearConv", *operands, out="y", pads=[1, 1, 1, 1], strides=[2, 1])
    assert integer_ops(compared(file, {"x": (2, 4, 7, 6)})) == ["Quantize", "QConv"]


def test_rule_1_unsigned_weights_around_128():
    file = QdqFile()
    weight = weights(file, 5, 4, 3, 3, rows=None, dtype="uint8", zero=128)
    file.op("QLinearConv", file.quantize("x", X), *file.numbers(X), *weight, *file.numbers(Y), out="y")
    assert integer_ops(compared(file, {"x": (2, 4, 7, 6)})) == ["Quantize", "QConv"]


def test_rule_1_weights_that_are_computed_stay():
    file = QdqFile()
    w = file.quantize("w", Grid(0.02, 0, "int8"))
    file.op(
        "QLinearConv",
        file.quantize("x", X),
        *file.numbers(X),
        w,
        *file.numbers(Grid(0.02, 0, "int8")),
        *file.numbers(Y),
        out="y",
    )
    graph = compared(file, {"x": (2, 4, 7, 6), "w": (5, 4, 3, 3)})
    assert "[QLinearConv]" in integer_ops(graph) and len(graph.notes) == 1


@pytest.mark.parametrize("rows", [None, 1])
def test_rule_2_qlinearmatmul(rows: int | None):
    file = QdqFile()
    file.op(
        "QLinearMatMul",
        file.quantize("x", X),
        *file.numbers(X),
        *weights(file, 20, 6, rows=rows),
        *file.numbers(Y),
        out="y",
    )
    assert integer_ops(compared(file, {"x": (3, 20)})) == ["Quantize", "QLinear"]


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("swapped", [0, 1])
def test_rule_2_qgemm(swapped: int, rounded: bool):
    file = QdqFile()
    weight = weights(file, *((6, 20) if swapped else (20, 6)), rows=None)
    operands = (file.quantize("x", X), *file.numbers(X), *weight, file.constant(np.arange(6, dtype=np.int32) * 500))
    file.op("QGemm", *operands, *(file.numbers(Y) if rounded else ()), domain=RUNTIME, out="y", transB=swapped)
    assert integer_ops(compared(file, {"x": (3, 20)})) == ["Quantize", "QLinear"]


@pytest.mark.parametrize("rows", [None, 0])
def test_rule_3_convinteger(rows: int | None):
    file = QdqFile()
    w, scale, _ = weights(file, 5, 4, 3, 3, rows=rows)
    value = file.op("ConvInteger", file.quantize("x", X), w, file.numbers(X)[1])
    file.constants[scale] = file.constants[scale].reshape(-1, 1, 1) if rows == 0 else file.constants[scale]
    file.op("Relu", file.op("Mul", file.op("Cast", value, to=1), scale), out="y")
    graph = compared(file, {"x": (2, 4, 7, 6)})
    assert integer_ops(graph) == ["Quantize", "QConv"] and only(graph, "QConv").attributes["y_scale"] is None


@pytest.mark.parametrize("rows", [None, 1])
def test_rule_3_matmulinteger(rows: int | None):
    file = QdqFile()
    w, scale, _ = weights(file, 20, 6, rows=rows)
    value = file.op("Cast", file.op("MatMulInteger", file.quantize("x", X), w, file.numbers(X)[1]), to=1)
    # A bias of whole steps: another one would be rounded to steps.
    bias = np.arange(6) * file.constants[scale]
    file.op("Add", file.op("Mul", scale, value), file.constant(bias.astype(np.float32)), out="y")
    assert integer_ops(compared(file, {"x": (3, 20)})) == ["Quantize", "QLinear"]


def test_rule_3_dynamic_scales_stay():
    file = QdqFile()
    w, scale, _ = weights(file, 20, 6, rows=None)
    file.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]))
    value = file.op("Cast", file.op("MatMulInteger", "q", w, "z"), to=1)
    file.op("Mul", value, file.op("Mul", "s", scale), out="y")
    graph = compared(file, {"x": (3, 20)})
    assert "[MatMulInteger]" in integer_ops(graph)
    assert any("computed while it runs" in reason for reason in graph.notes.values())


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("constant", [False, True])
def test_rule_4_sums_and_products(op: str, constant: bool):
    file = QdqFile()
    b = file.constant(np.array([7], np.uint8)) if constant else file.quantize("b", X)
    file.op(
        f"QLinear{op}",
        file.quantize("a", X),
        *file.numbers(X),
        b,
        *file.numbers(X),
        *file.numbers(Y),
        domain=RUNTIME,
        out="y",
    )
    graph = compared(file, {"a": (2, 3, 4)} | ({} if constant else {"b": (2, 3, 4)}), 1)
    assert integer_ops(graph)[-1] == ("QActivate" if constant else f"Q{op}")


@pytest.mark.parametrize("op", ["Sigmoid", "LeakyRelu"])
def test_rule_4_functions(op: str):
    file = QdqFile()
    y = ZERO_TO_ONE if op == "Sigmoid" else Y
    attributes = {"alpha": 0.2} if op == "LeakyRelu" else {}
    file.op(
        f"QLinear{op}", file.quantize("x", X), *file.numbers(X), *file.numbers(y), domain=RUNTIME, out="y", **attributes
    )
    assert integer_ops(compared(file, {"x": (2, 3, 4)}, 1)) == ["Quantize", "QActivate"]


def test_rule_4_concat():
    file = QdqFile()
    parts = [name for x in ("a", "b") for name in (file.quantize(x, X), *file.numbers(X))]
    file.op("QLinearConcat", *file.numbers(Y), *parts, domain=RUNTIME, out="y", axis=1)
    assert integer_ops(compared(file, {"a": (2, 3, 4), "b": (2, 2, 4)}, 1)) == ["Quantize", "Quantize", "QConcat"]


@pytest.mark.parametrize("op", ["AveragePool", "GlobalAveragePool"])
def test_rule_4_pools(op: str):
    file = QdqFile()
    attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]} if op == "AveragePool" else {"channels_last": 0}
    file.op(
        f"QLinear{op}", file.quantize("x", X), *file.numbers(X), *file.numbers(Y), domain=RUNTIME, out="y", **attributes
    )
    name = "QPool" if op == "AveragePool" else "QGlobalPool"
    assert integer_ops(compared(file, {"x": (2, 3, 6, 5)}, 1)) == ["Quantize", name]


def test_rule_4_channels_last_stay():
    file = QdqFile()
    file.op(
        "QLinearGlobalAveragePool",
        file.quantize("x", X),
        *file.numbers(X),
        *file.numbers(Y),
        domain=RUNTIME,
        out="q",
        channels_last=1,
    )
    file.dequantize("q", Y, "y")
    model = file.model({"x": (2, 5, 6, 3)})
    graph = read(model)
    assert "[QLinearGlobalAveragePool]" in integer_ops(graph)
