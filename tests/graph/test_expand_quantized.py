"""What is written for ONNX Runtime computes the bits of the definition, operator by operator."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_tools import run_model
from secateur.graph.ir import Activation, Graph, Node, TensorType
from secateur.graph.quantized import compute
from secateur.graph.to_onnx import to_onnx

types = st.sampled_from(["uint8", "int8"])
scales = st.floats(2**-8, 1.0, width=32)
activations = st.sampled_from([None, Activation("relu"), Activation("clip", -1.0, 2.5), Activation("leaky_relu", 0.25)])


def zero(data: st.DataObject, dtype: str) -> int:
    info = np.iinfo(dtype)
    return data.draw(st.integers(int(info.min), int(info.max)))


def check(
    op: str,
    operands: dict[str, np.ndarray | None],
    shape: tuple[int, ...],
    result: str,
    opset: int = 17,
    **attributes: Any,
) -> None:
    """The expansion of one node against the definition; w, bias and slope are constants."""
    given = {name: array for name, array in operands.items() if array is not None}
    constants = {name: array for name, array in given.items() if name in ("w", "bias", "slope")}
    kinds = {name: TensorType(array.shape, array.dtype.name) for name, array in given.items()}
    inputs = tuple(name if array is not None else "" for name, array in operands.items())
    node = Node("n", op, inputs, ("y",), attributes, "secateur")
    feeds = {name: array for name, array in given.items() if name not in constants}
    graph = Graph((node,), tuple(feeds), ("y",), {**kinds, "y": TensorType(shape, result)}, constants, opset)
    (found,) = run_model(to_onnx(graph), feeds)
    wanted = compute(node, list(operands.values()), result)
    assert found.shape == wanted.shape == shape and found.dtype == wanted.dtype == np.dtype(result)
    assert np.array_equal(found, wanted)


def values(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.random.default_rng((seed, *shape)).integers(info.min, info.max + 1, shape).astype(dtype)


def epilogue(
    data: st.DataObject, shape: tuple[int, ...], rows: int, seed: int
) -> tuple[dict[str, Any], np.ndarray | None, str]:
    """Attributes behind the sum, the residual, and the type of the result."""
    dtype = data.draw(st.sampled_from(["uint8", "int8", "float32"]))
    floats = dtype == "float32"
    given: dict[str, Any] = {"inner": None, "r_scale": None, "r_zero": 0, "activation": data.draw(activations)}
    given |= {"y_scale": None if floats else data.draw(scales), "y_zero": 0 if floats else zero(data, dtype)}
    given["w_scale"] = np.random.default_rng(seed).uniform(1e-4, 1e-2, rows).astype(np.float32)
    residual = None
    if data.draw(st.booleans()):
        kind = data.draw(types)
        residual = values(shape, kind, seed + 3)
        given |= {"r_scale": data.draw(scales), "r_zero": zero(data, kind)}
        inner = data.draw(types)
        given["inner"] = data.draw(st.sampled_from([None, (data.draw(scales), zero(data, inner), inner)]))
    return given, residual, dtype


@settings(max_examples=60)
@given(data=st.data(), x=types, seed=st.integers(0, 999), opset=st.sampled_from([11, 17, 21]))
def test_convolution(data: st.DataObject, x: str, seed: int, opset: int):
    group, per_group, rows = data.draw(st.sampled_from([(1, 3, 5), (4, 1, 4), (2, 2, 4)]))
    bias = np.arange(rows, dtype=np.int32) * 700 - 900 if data.draw(st.booleans()) else None
    more, residual, dtype = epilogue(data, (2, rows, 4, 6), rows, seed)
    window = {"strides": (2, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "group": group}
    operands = {"x": values((2, group * per_group, 7, 6), x, seed), "w": values((rows, per_group, 3, 3), "int8", seed)}
    more |= {"x_scale": data.draw(scales), "x_zero": zero(data, x)}
    check("QConv", {**operands, "bias": bias, "r": residual}, (2, rows, 4, 6), dtype, opset, **window, **more)


@settings(max_examples=40)
@given(data=st.data(), x=types, seed=st.integers(0, 999))
def test_linear(data: st.DataObject, x: str, seed: int):
    shape = data.draw(st.sampled_from([(3,), (2, 3)]))
    bias = np.arange(5, dtype=np.int32) * 700 - 900 if data.draw(st.booleans()) else None
    more, residual, dtype = epilogue(data, (*shape, 5), 5, seed)
    operands = {"x": values((*shape, 11), x, seed), "w": values((5, 11), "int8", seed), "bias": bias, "r": residual}
    more |= {"x_scale": data.draw(scales), "x_zero": zero(data, x)}
    check("QLinear", operands, (*shape, 5), dtype, **more)


def test_slopes():
    slope = np.linspace(0, 1, 5).astype(np.float32)
    given = {
        "inner": None,
        "r_scale": None,
        "r_zero": 0,
        "activation": Activation("prelu"),
        "y_scale": 0.5,
        "y_zero": 100,
    }
    window = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1, "x_scale": 0.1, "x_zero": 3}
    operands = {"x": values((1, 4, 3, 3), "uint8", 0), "w": values((5, 4, 1, 1), "int8", 1), "bias": None, "r": None}
    scale = np.full(5, 0.02, np.float32)
    check("QConv", {**operands, "slope": slope}, (1, 5, 3, 3), "uint8", **window, **given, w_scale=scale)


@settings(max_examples=40)
@given(data=st.data(), op=st.sampled_from(["QAdd", "QMul"]), seed=st.integers(0, 999), a=types, b=types, y=types)
def test_sum_and_product(data: st.DataObject, op: str, seed: int, a: str, b: str, y: str):
    given = {f"{key}_scale": data.draw(scales) for key in "aby"}
    given |= {f"{key}_zero": zero(data, dtype) for key, dtype in zip("aby", (a, b, y), strict=True)}
    gate = data.draw(st.sampled_from([(2, 3, 4, 5), (2, 3, 1, 1)]))
    operands = {"a": values((2, 3, 4, 5), a, seed), "b": values(gate, b, seed + 1)}
    check(op, operands, (2, 3, 4, 5), y, **given, activation=data.draw(activations))


@settings(max_examples=30)
@given(data=st.data(), kind=st.sampled_from(["average", "max"]), seed=st.integers(0, 999), x=types, y=types)
def test_pools(data: st.DataObject, kind: str, seed: int, x: str, y: str):
    given = {
        "x_scale": data.draw(scales),
        "x_zero": zero(data, x),
        "y_scale": data.draw(scales),
        "y_zero": zero(data, y),
    }
    window = {"kernel": (3, 2), "strides": (2, 1), "pads": (1, 0, 1, 1), "dilations": (1, 1)}
    q = {"x": values((2, 3, 7, 6), x, seed)}
    counted = data.draw(st.booleans())
    check("QPool", q, (2, 3, 4, 6), y, kind=kind, count_include_pad=counted, **window, **given)
    check("QGlobalPool", q, (2, 3, 1, 1), y, kind=kind, **given)


@settings(max_examples=20)
@given(data=st.data(), seed=st.integers(0, 999), a=types, b=types, y=types)
def test_concat(data: st.DataObject, seed: int, a: str, b: str, y: str):
    given = {"scales": (data.draw(scales), data.draw(scales)), "zeros": (zero(data, a), zero(data, b))}
    given |= {"y_scale": data.draw(scales), "y_zero": zero(data, y), "axis": 1}
    check("QConcat", {"a": values((2, 3, 4), a, seed), "b": values((2, 1, 4), b, seed)}, (2, 4, 4), y, **given)


@pytest.mark.parametrize("x", ["uint8", "int8"])
@pytest.mark.parametrize("y", ["uint8", "int8"])
def test_tables(x: str, y: str):
    table = np.random.default_rng(0).permutation(256).astype(np.uint8).view(y)
    check("QActivate", {"x": np.arange(256, dtype=np.uint8).view(x)}, (256,), y, table=table)


@pytest.mark.parametrize("opset", [11, 13, 21])
def test_rounding(opset: int):
    x = np.linspace(-9, 9, 200).astype(np.float32)
    check("Quantize", {"x": x}, (200,), "int8", opset, scale=0.0625, zero=-3, dtype="int8")
    check("Dequantize", {"x": np.arange(256, dtype=np.uint8)}, (256,), "float32", opset, scale=0.1, zero=77)
