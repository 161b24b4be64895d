"""Integers for floats: the oracles of ALGORITHMS.md L10, ONNX Runtime's and torch's own rounding, any range."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from secateur.errors import QuantizationError
from secateur.quantization.numbers import (
    ACTIVATIONS,
    WEIGHTS,
    Numbers,
    Scale,
    rounded,
    scale_of_range,
    scale_of_tensor,
    to_floats,
    to_integers,
)

ALL = [
    Numbers(bits, signed, symmetric, restricted)
    for bits in (2, 3, 4, 7, 8, 16)
    for signed in (False, True)
    for symmetric in (False, True)
    for restricted in (False, True)
]
bounds = st.floats(-(2.0**100), 2.0**100, width=32)


def test_oracle_asymmetric_unsigned():
    scale = scale_of_range(-1.0, 2.0, ACTIVATIONS)
    assert scale.step == np.float32(3 / 255)
    assert scale.zero == 85


def test_oracle_restricted_symmetric():
    scale = scale_of_range(-1.0, 2.0, WEIGHTS)
    assert scale.step == np.float32(2 / 127)
    assert scale.zero == 0


def test_oracle_symmetric_of_distiller():
    assert scale_of_range(-1.0, 2.0, Numbers(8, True, True, restricted=False)).step == np.float32(2 / 127.5)


@pytest.mark.parametrize(
    ("numbers", "low", "high", "dtype"),
    [
        (Numbers(8), 0, 255, "uint8"),
        (Numbers(8, signed=True), -128, 127, "int8"),
        (WEIGHTS, -127, 127, "int8"),
        (Numbers(8, True, True, False), -128, 127, "int8"),
        (Numbers(8, False, True), 1, 255, "uint8"),
        (Numbers(2, True, True), -1, 1, "int8"),
        (Numbers(4), 0, 15, "uint8"),
        (Numbers(16), 0, 65535, "uint16"),
    ],
)
def test_integers_that_there_are(numbers, low, high, dtype):
    assert (numbers.low, numbers.high, numbers.dtype) == (low, high, dtype)


@given(bounds, bounds, st.sampled_from(ALL))
def test_zero_is_exact_in_any_range(a, b, numbers):
    scale = scale_of_range(min(a, b), max(a, b), numbers)
    assert rounded(np.zeros(3), scale).tolist() == [0.0] * 3
    assert numbers.low <= scale.zero <= numbers.high


@given(bounds, bounds, st.sampled_from(ALL), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_what_is_inside_comes_back_within_half_a_step(a, b, numbers, places):
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    scale = scale_of_range(low, high, numbers)
    x = (low + (high - low) * np.array(places)).astype(np.float32)
    bottom, top = (float(end) for end in scale.range)
    inside = x[(x >= bottom) & (x <= top)]
    # Float32 has 24 bits: a division of a number near the end of 16 bits is known to a 256th of a step.
    slack = float(scale.step) * 0.01
    assert (np.abs(rounded(inside, scale).astype(np.float64) - inside) <= float(scale.step) / 2 + slack).all()
    # The ends of the range lie at most half a step outside: that is where the zero point was rounded.
    assert bottom - low <= float(scale.step) * (0.51 if not (numbers.symmetric and not numbers.restricted) else 1.01)
    assert high - top <= float(scale.step) * 0.51


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=30), st.sampled_from(ALL))
def test_rounding_twice_is_rounding_once(values, numbers):
    x = np.array(values, np.float32)
    scale = scale_of_tensor(x, numbers)
    once = to_integers(x, scale)
    assert np.array_equal(to_integers(to_floats(once, scale), scale), once)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_integers_are_those_of_torch(seed, signed, per_channel):
    draw = np.random.default_rng(seed)
    numbers = Numbers(8, signed=signed)
    x = (draw.standard_normal((3, 4, 5)) * 10.0 ** draw.integers(-5, 5)).astype(np.float32)
    scale = scale_of_tensor(x * 0.8, numbers, 0 if per_channel else None)
    t = torch.from_numpy(x)
    if per_channel:
        steps, zeros = torch.from_numpy(scale.step), torch.from_numpy(scale.zero)
        expected = torch.fake_quantize_per_channel_affine(t, steps, zeros, 0, numbers.low, numbers.high)
    else:
        expected = torch.fake_quantize_per_tensor_affine(
            t, float(scale.step), int(scale.zero), numbers.low, numbers.high
        )
    # torch multiplies with 1 / step: a number between two integers may fall to the other side.
    different = expected.numpy() != rounded(x, scale)
    assert different.mean() <= 0.02
    assert np.allclose(expected.numpy(), rounded(x, scale), atol=float(scale.step.max()) * 1.001, rtol=0)


def quantize_in_onnxruntime(x, scale):
    stored = [
        numpy_helper.from_array(scale.step, "step"),
        numpy_helper.from_array(scale.zero.astype(scale.numbers.dtype), "zero"),
    ]
    axis = {} if scale.axis is None else {"axis": scale.axis}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"], **axis),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["y"], **axis),
    ]
    kind = TensorProto.INT8 if scale.numbers.signed else TensorProto.UINT8
    graph = helper.make_graph(
        nodes,
        "q",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [
            helper.make_tensor_value_info("q", kind, x.shape),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape),
        ],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_integers_are_those_of_onnxruntime(signed, axis):
    draw = np.random.default_rng(0)
    x = (draw.standard_normal((5, 7, 11)) * np.array([1e-3, 1, 50, 3, 1e4])[:, None, None]).astype(np.float32)
    scale = scale_of_tensor(x * 0.7, Numbers(8, signed=signed), axis)
    # Exact halves of steps as well.
    x[0, 0] = scale.along(scale.step, 3).reshape(-1)[0] * (np.arange(11, dtype=np.float32) - 5.5)
    q, y = quantize_in_onnxruntime(x, scale)
    assert q.dtype == to_integers(x, scale).dtype
    assert np.array_equal(q, to_integers(x, scale))
    assert np.array_equal(y, rounded(x, scale))


def test_halves_go_to_even():
    scale = Scale(np.float32(1), np.int32(0), None, WEIGHTS)
    assert to_integers(np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]), scale).tolist() == [-2, -2, 0, 0, 2, 2]


def test_infinity_becomes_the_end_and_nan_is_refused():
    scale = scale_of_range(-1.0, 2.0, ACTIVATIONS)
    assert to_integers(np.array([-np.inf, np.inf]), scale).tolist() == [0, 255]
    with pytest.raises(QuantizationError, match="NaN"):
        to_integers(np.array([np.nan]), scale)


@pytest.mark.parametrize("low, high", [(0.0, 0.0), (0.0, 1e-40), (-1e-45, 0.0)])
def test_ranges_of_nothing_get_step_1(low, high):
    scale = scale_of_range(low, high, ACTIVATIONS)
    assert scale.step == 1


def test_tiny_and_huge_ranges_keep_their_numbers():
    tiny = scale_of_range(0.0, 1e-30, ACTIVATIONS)
    assert rounded(np.float32([1e-30]), tiny) == pytest.approx([1e-30])
    huge = scale_of_range(-3e38, 3e38, ACTIVATIONS)
    assert np.isfinite(rounded(np.float32([3e38, -3e38]), huge)).all()


@pytest.mark.parametrize("low, high", [(np.nan, 1.0), (0.0, np.inf), (2.0, 1.0)])
def test_impossible_ranges_are_refused(low, high):
    with pytest.raises(QuantizationError):
        scale_of_range(low, high, ACTIVATIONS)


@pytest.mark.parametrize("bits", [0, 1, 17, 32])
def test_impossible_bits_are_refused(bits):
    with pytest.raises(QuantizationError, match="2 to 16"):
        Numbers(bits)


@pytest.mark.parametrize(
    ("step", "zero", "axis"),
    [(0.0, 0, None), (np.nan, 0, None), (-1.0, 0, None), (1.0, 200, None), ([1.0], [0], None), ([1.0, 2.0], [0], 0)],
)
def test_impossible_scales_are_refused(step, zero, axis):
    with pytest.raises(QuantizationError):
        Scale(np.float32(step), np.int32(zero), axis, WEIGHTS)


def test_channels_have_their_own_steps():
    x = np.stack([np.linspace(-1, 1, 9), np.linspace(-100, 100, 9)]).astype(np.float32)
    scale = scale_of_tensor(x, WEIGHTS, 0)
    assert scale.step.tolist() == [np.float32(1 / 127), np.float32(100 / 127)]
    assert scale_of_tensor(x.T, WEIGHTS, -1).axis == 1
    assert np.array_equal(to_integers(x.T, scale_of_tensor(x.T, WEIGHTS, 1)).T, to_integers(x, scale))
