"""Softmax, layer normalization and means against float64."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special

import secateur.engine.lowering.normalization  # noqa: F401  (registers the lowerings)
from engine.harness import ISAS, assembly
from engine.peers import lowered, onnx_runtime
from secateur.engine.kernels.layer_norm import LayerNorm
from secateur.engine.kernels.mean import MeanColumns, MeanRows
from secateur.engine.kernels.softmax import SoftmaxColumns, SoftmaxRows
from secateur.engine.lowering.context import lowerings
from secateur.graph.ir import Graph, Node, TensorType

RANDOM = np.random.default_rng(17)
shapes = st.lists(st.integers(1, 20), min_size=1, max_size=4).map(tuple)


def random(shape: tuple[int, ...]) -> np.ndarray:
    return (3 * RANDOM.standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("isa", ISAS)
@given(shape=shapes, data=st.data(), pad=st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_softmax(isa: str, shape, data, pad: int) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    x = random(shape)
    (y,) = lowered("Softmax", [x], [shape], {"axis": axis}, isa, pad=pad)
    np.testing.assert_allclose(y, special.softmax(x.astype(np.float64), axis), rtol=2e-6)
    (y,) = lowered("LogSoftmax", [x], [shape], {"axis": axis}, isa, pad=pad)
    np.testing.assert_allclose(y, special.log_softmax(x.astype(np.float64), axis), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
def test_softmax_of_special_rows_as_onnx_runtime(isa: str, operator: str) -> None:
    x = np.zeros((6, 20), np.float32)
    x[0, 3], x[1, 17], x[2, 3], x[3], x[4, 5], x[5] = np.nan, np.inf, -np.inf, -np.inf, 3e38, -3e38
    (peer,) = onnx_runtime(operator, [x], {"axis": 1})
    for axis, values in ((1, x), (0, np.ascontiguousarray(x.T))):
        (y,) = lowered(operator, [values], [values.shape], {"axis": axis}, isa)
        y = y if axis else y.T
        np.testing.assert_array_equal(np.isnan(y), np.isnan(peer))
        np.testing.assert_allclose(y, peer, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
def test_masked_terms_are_zero_and_never_denormal(isa: str) -> None:
    x = np.linspace(-120, 0, 240, dtype=np.float32)[None]
    for axis, values in ((1, x), (0, np.ascontiguousarray(x.T))):
        (y,) = lowered("Softmax", [values], [values.shape], {"axis": axis}, isa)
        assert not ((y != 0) & (np.abs(y) < np.finfo(np.float32).tiny)).any()
        np.testing.assert_allclose(y, special.softmax(values.astype(np.float64), axis), rtol=2e-6, atol=2e-35)


@pytest.mark.parametrize("isa", ISAS)
@given(shape=shapes, data=st.data(), pad=st.integers(0, 2), offset=st.sampled_from([0.0, 1000.0]))
@settings(max_examples=60, deadline=None)
def test_layer_normalization(isa: str, shape, data, pad: int, offset: float) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    x, scale, bias = random(shape) + np.float32(offset), random(shape[axis:]), random(shape[axis:])
    operands = [x, scale] + ([bias] if data.draw(st.booleans()) else [])
    attributes = {"axis": axis, "epsilon": 1e-5}
    (y,) = lowered(
        "LayerNormalization", operands, [shape], attributes, isa, pad=pad, constants=tuple(range(1, len(operands)))
    )
    axes = tuple(range(axis, len(shape)))
    wide = x.astype(np.float64)
    mean, variance = wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True)
    exact = (wide - mean) / np.sqrt(variance + 1e-5) * scale + (bias if len(operands) == 3 else 0)
    assert (np.abs(y - exact) <= 1e-5 + 1e-5 * np.abs(exact)).all()


@pytest.mark.parametrize("isa", ISAS)
@given(shape=shapes, data=st.data(), pad=st.integers(0, 2), keep=st.booleans())
@settings(max_examples=80, deadline=None)
def test_reduce_mean(isa: str, shape, data, pad: int, keep: bool) -> None:
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    x = random(shape)
    exact = x.astype(np.float64).mean(axes, keepdims=keep)
    attributes = {"axes": axes, "keepdims": int(keep)}
    node = Node("n", "ReduceMean", ("x",), ("y",), attributes, "secateur")
    types = {"x": TensorType(shape, "float32"), "y": TensorType(exact.shape, "float32")}
    refused = lowerings["ReduceMean"].refuses(node, Graph((node,), ("x",), ("y",), types, {}, 20))
    long = [axis for axis, size in enumerate(shape) if size > 1]
    reduced = [long.index(axis) for axis in axes if axis in long]
    assert (refused is None) == (not reduced or reduced[-1] - reduced[0] == len(reduced) - 1)
    assume(refused is None)
    (y,) = lowered("ReduceMean", [x], [exact.shape], attributes, isa, pad=pad)
    np.testing.assert_allclose(y, exact, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    "kernel", [SoftmaxRows(False), SoftmaxColumns(True), MeanRows(), MeanColumns(), LayerNorm(True)]
)
def test_neon_code_has_no_calls(kernel) -> None:
    assert "\tbl\t" not in assembly(kernel, "neon")
