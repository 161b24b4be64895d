"""The definition of the quantized operators against ONNX Runtime's: bit for bit where it orders operations alike."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from secateur.graph.ir import Activation, Node
from secateur.graph.quantized import Grid, compute, to_floats, to_integers

RNG = np.random.default_rng


def runtime(op: str, inputs: list[np.ndarray | None], domain: str = "", output: str | None = None, **attributes: Any):
    """One operator in ONNX Runtime; the first input is fed, the others are constants. None is an absent one."""
    names = ["" if array is None else f"i{index}" for index, array in enumerate(inputs)]
    node = helper.make_node(op, names, ["y"], domain=domain, **attributes)
    x = inputs[0]
    assert x is not None
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(output) if output else x.dtype)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("i0", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [
            numpy_helper.from_array(array, name)
            for array, name in zip(inputs[1:], names[1:], strict=True)
            if array is not None
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"i0": x})[0]


def step(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def point(grid: Grid) -> np.ndarray:
    return np.array(grid.zero, grid.dtype)


def integers(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return RNG(seed).integers(info.min, info.max + 1, shape).astype(dtype)


def sums(op: str, x: Grid, w_scale: np.ndarray, y: Grid | None, **more: Any) -> Node:
    given = {"inner": None, "r_scale": None, "r_zero": 0, "activation": None, "x_scale": x.scale, "x_zero": x.zero}
    given |= {"w_scale": w_scale, "y_scale": y.scale if y else None, "y_zero": y.zero if y else 0} | more
    return Node("n", op, ("x", "w"), ("y",), given, "secateur")


scales = st.floats(2**-10, 1.0, width=32)
types = st.sampled_from(["uint8", "int8"])


def grids(dtype: str):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return st.builds(Grid, scales, st.integers(int(low), int(high)), st.just(dtype))


@settings(max_examples=60)
@given(data=st.data(), dtype=types, seed=st.integers(0, 1 << 20))
def test_convolution_is_onnx_runtimes_bit_for_bit(data: st.DataObject, dtype: str, seed: int):
    x, y = data.draw(grids(dtype)), data.draw(grids(dtype))
    group, per_group, outputs = data.draw(st.sampled_from([(1, 3, 4), (1, 8, 5), (2, 4, 6), (6, 1, 6), (4, 1, 8)]))
    kernel = data.draw(st.sampled_from([(1, 1), (3, 3), (2, 3), (5, 1)]))
    strides, dilations = data.draw(
        st.sampled_from([((1, 1), (1, 1)), ((2, 1), (1, 1)), ((1, 1), (2, 1)), ((2, 2), (1, 2))])
    )
    pads = tuple(data.draw(st.integers(0, 2)) for _ in range(4))
    rng = RNG(seed)
    q, w = (
        integers((2, group * per_group, 9, 8), dtype, seed),
        integers((outputs, per_group, *kernel), "int8", seed + 1),
    )
    w_scale = rng.uniform(1e-4, 1e-2, outputs).astype(np.float32)
    bias = rng.integers(-20000, 20000, outputs).astype(np.int32) if data.draw(st.booleans()) else None
    window = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    node = sums("QConv", x, w_scale, y, **window)
    wanted = runtime(
        "QLinearConv",
        [q, step(x.scale), point(x), w, w_scale, np.zeros(outputs, np.int8), step(y.scale), point(y), bias],
        kernel_shape=kernel,
        **window,
    )
    assert np.array_equal(compute(node, [q, w, bias], dtype), wanted)


@settings(max_examples=30)
@given(data=st.data(), dtype=types, seed=st.integers(0, 1 << 20))
def test_product_is_onnx_runtimes_bit_for_bit(data: st.DataObject, dtype: str, seed: int):
    x, y = data.draw(grids(dtype)), data.draw(grids(dtype))
    rows, outputs, columns = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9)), data.draw(st.integers(1, 40))
    q, w = integers((rows, columns), dtype, seed), integers((outputs, columns), "int8", seed + 1)
    w_scale = RNG(seed).uniform(1e-4, 1e-2, outputs).astype(np.float32)
    zeros = np.zeros(outputs, np.int8)
    wanted = runtime(
        "QLinearMatMul",
        [q, step(x.scale), point(x), np.ascontiguousarray(w.T), w_scale, zeros, step(y.scale), point(y)],
    )
    assert np.array_equal(compute(sums("QLinear", x, w_scale, y), [q, w], dtype), wanted)


@given(data=st.data(), dtype=types, seed=st.integers(0, 1 << 20))
def test_rounding_is_onnx_runtimes_bit_for_bit(data: st.DataObject, dtype: str, seed: int):
    grid = data.draw(grids(dtype))
    x = (RNG(seed).standard_normal(200) * 100 * grid.scale).astype(np.float32)
    wanted = runtime("QuantizeLinear", [x, step(grid.scale), point(grid)], output=dtype)
    assert np.array_equal(to_integers(x, grid), wanted)
    back = runtime("DequantizeLinear", [wanted, step(grid.scale), point(grid)], output="float32")
    assert np.array_equal(to_floats(wanted, grid), back)


@given(data=st.data(), dtype=types, seed=st.integers(0, 1 << 20))
def test_mean_over_maps_is_onnx_runtimes_bit_for_bit(data: st.DataObject, dtype: str, seed: int):
    x, y = data.draw(grids(dtype)), data.draw(grids(dtype))
    q = integers((2, 5, data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))), dtype, seed)
    numbers = {"x_scale": x.scale, "x_zero": x.zero, "y_scale": y.scale, "y_zero": y.zero}
    node = Node("n", "QGlobalPool", ("x",), ("y",), {"kind": "average", **numbers}, "secateur")
    wanted = runtime(
        "QLinearGlobalAveragePool",
        [q, step(x.scale), point(x), step(y.scale), point(y)],
        "com.microsoft",
        channels_last=0,
    )
    assert np.array_equal(compute(node, [q], dtype), wanted)


@given(data=st.data(), dtype=types, seed=st.integers(0, 1 << 20))
def test_sum_and_product_are_onnx_runtimes_to_one_step(data: st.DataObject, dtype: str, seed: int):
    a, b, y = (data.draw(grids(dtype)) for _ in range(3))
    p, q = integers((3, 4, 5), dtype, seed), integers((3, 4, 5), dtype, seed + 1)
    numbers = {
        f"{key}_{what}": getattr(grid, what)
        for key, grid in zip("aby", (a, b, y), strict=True)
        for what in ("scale", "zero")
    }
    operands = [p, step(a.scale), point(a), q, step(b.scale), point(b), step(y.scale), point(y)]
    for op in ("Add", "Mul"):
        node = Node("n", f"Q{op}", ("a", "b"), ("y",), {**numbers, "activation": None}, "secateur")
        wanted = runtime(f"QLinear{op}", operands, "com.microsoft").astype(int)
        assert np.abs(compute(node, [p, q], dtype).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 0, 1, 1)])
def test_maximum_of_windows_is_onnx_runtimes_bit_for_bit(pads: tuple[int, ...]):
    for dtype in ("uint8", "int8"):
        q = integers((2, 3, 7, 8), dtype, 1)
        window = {"kernel": (3, 2), "strides": (2, 1), "pads": pads, "dilations": (1, 1), "count_include_pad": False}
        same = {"x_scale": 0.1, "x_zero": 3, "y_scale": 0.1, "y_zero": 3}
        node = Node("n", "QPool", ("x",), ("y",), {"kind": "max", **window, **same}, "secateur")
        wanted = runtime("MaxPool", [q], kernel_shape=(3, 2), strides=(2, 1), pads=pads)
        assert np.array_equal(compute(node, [q], dtype), wanted)


@pytest.mark.parametrize("counted", [False, True])
def test_means_of_windows_are_the_rounded_means(counted: bool):
    x, y = Grid(0.11, 7, "uint8"), Grid(0.07, 20, "uint8")
    q = integers((2, 3, 7, 8), "uint8", 1)
    window = {
        "kernel": (3, 2),
        "strides": (2, 1),
        "pads": (1, 0, 1, 1),
        "dilations": (1, 1),
        "count_include_pad": counted,
    }
    numbers = {"x_scale": x.scale, "x_zero": x.zero, "y_scale": y.scale, "y_zero": y.zero}
    node = Node("n", "QPool", ("x",), ("y",), {"kind": "average", **window, **numbers}, "secateur")
    floats = to_floats(q, x)
    mean = runtime(
        "AveragePool", [floats], kernel_shape=(3, 2), strides=(2, 1), pads=(1, 0, 1, 1), count_include_pad=int(counted)
    )
    found = compute(node, [q], "uint8").astype(int)
    assert np.abs(found - to_integers(mean, y).astype(int)).max() <= 1
    assert np.mean(found == to_integers(mean, y)) > 0.97


def test_residual_by_hand():
    """One pixel, one channel: every line of the definition with numbers that float32 has exactly."""
    x, y, r = Grid(0.5, 10, "uint8"), Grid(0.25, 4, "uint8"), Grid(0.125, 2, "uint8")
    q, w = np.array([[[[14]]]], np.uint8), np.array([[[[3]]]], np.int8)
    residual, bias = np.array([[[[7]]]], np.uint8), np.array([2], np.int32)
    window = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
    w_scale = np.array([0.5], np.float32)
    # n = (14 - 10) 3 + 2 = 14, in real units 14 / 4 = 3.5, and 14 steps of the output; residual 5 / 8, 2.5 steps
    for more, wanted in (
        ({}, 18),
        ({"r_scale": r.scale, "r_zero": r.zero}, 20),  # 16.5 goes to 16
        ({"r_scale": r.scale, "r_zero": r.zero, "activation": Activation("clip", 0.0, 2.0)}, 12),
        ({"r_scale": r.scale, "r_zero": r.zero, "inner": (1.0, 0, "int8")}, 22),  # 3.5 goes to 4: 16 + 2.5 = 18.5
        ({"r_scale": r.scale, "r_zero": r.zero, "activation": Activation("neg")}, 0),
    ):
        node = sums("QConv", x, w_scale, y, **window, **more)
        given = [q, w, bias, residual if "r_scale" in more else None]
        assert compute(node, given, "uint8").item() == wanted
    floats = sums("QConv", x, w_scale, None, **window, r_scale=r.scale, r_zero=r.zero)
    assert compute(floats, [q, w, bias, residual], "float32").item() == 3.5 + 0.625


def test_a_fused_sum_is_the_sum_of_the_parts():
    """QConv with inner numbers and a residual = QConv, then QAdd: fusing changes no bit."""
    x, inner, r, y = Grid(0.02, 3, "int8"), Grid(0.03, -7, "int8"), Grid(0.05, 9, "int8"), Grid(0.04, 1, "int8")
    q, w = integers((1, 8, 6, 6), "int8", 0), integers((8, 8, 3, 3), "int8", 1)
    w_scale = RNG(2).uniform(1e-3, 2e-3, 8).astype(np.float32)
    residual = integers((1, 8, 6, 6), "int8", 3)
    window = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "group": 1}
    for activation in (None, Activation("relu"), Activation("hard_swish")):
        first = compute(sums("QConv", x, w_scale, inner, **window), [q, w], "int8")
        numbers = {
            f"{key}_{what}": getattr(grid, what)
            for key, grid in zip("aby", (inner, r, y), strict=True)
            for what in ("scale", "zero")
        }
        added = Node("n", "QAdd", ("a", "b"), ("y",), {**numbers, "activation": activation}, "secateur")
        more = {
            "inner": (inner.scale, inner.zero, "int8"),
            "r_scale": r.scale,
            "r_zero": r.zero,
            "activation": activation,
        }
        whole = compute(sums("QConv", x, w_scale, y, **window, **more), [q, w, None, residual], "int8")
        assert np.array_equal(whole, compute(added, [first, residual], "int8"))


def test_table_is_indexed_by_the_byte():
    table = np.arange(256, dtype=np.uint8)
    node = Node("n", "QActivate", ("x",), ("y",), {"table": table}, "secateur")
    assert compute(node, [np.array([-128, -1, 0, 127], np.int8)], "uint8").tolist() == [128, 255, 0, 127]


def test_concat_copies_equal_numbers_and_moves_others():
    given = {"axis": 0, "scales": (0.5, 1.0), "zeros": (2, 2), "y_scale": 0.5, "y_zero": 2}
    node = Node("n", "QConcat", ("a", "b"), ("y",), given, "secateur")
    found = compute(node, [np.array([0, 255], np.uint8), np.array([0, 100, 200], np.uint8)], "uint8")
    assert found.tolist() == [0, 255, 0, 198, 255]


@given(data=st.data(), types=st.tuples(types, types))
def test_a_move_to_other_numbers_is_what_qdq_says_bit_for_bit(data: st.DataObject, types: tuple[str, str]):
    x, y = (data.draw(grids(dtype)) for dtype in types)
    q = np.arange(256, dtype=np.uint8).view(x.dtype)
    floats = runtime("DequantizeLinear", [q, step(x.scale), point(x)], output="float32")
    wanted = runtime("QuantizeLinear", [floats, step(y.scale), point(y)], output=y.dtype)
    given = {"axis": 0, "scales": (x.scale,), "zeros": (x.zero,), "y_scale": y.scale, "y_zero": y.zero}
    assert np.array_equal(compute(Node("n", "QConcat", ("a",), ("y",), given, "secateur"), [q], y.dtype), wanted)


def test_a_move_rounds_the_quotient_and_not_the_quotient_of_scales():
    # Seven steps of x are 7.4999995 of y, and 7.5 by the quotient of the scales.
    x, y = Grid(0.028437070548534393, 128, "uint8"), Grid(0.026541266590356827, 8, "int8")
    given = {"axis": 0, "scales": (x.scale,), "zeros": (x.zero,), "y_scale": y.scale, "y_zero": y.zero}
    node = Node("n", "QConcat", ("a",), ("y",), given, "secateur")
    assert compute(node, [np.array([121], np.uint8)], "int8").tolist() == [1]
