"""16-bit floats: the same numbers as a cast, checks of what does not fit, the same answers."""

import ml_dtypes
import numpy as np
import onnx
import pytest

from float_networks import residual, run, stored
from graph_tools import model_of, node
from secateur.errors import QuantizationError
from secateur.quantization.half import to_half
from secateur.quantization.prepare import prepared


def rounded(kind):
    """The network with its weights as the kind tells them."""
    model = onnx.ModelProto()
    model.CopyFrom(prepared(residual()))
    dtype = np.float16 if kind == "fp16" else ml_dtypes.bfloat16
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(dtype).astype(np.float32), tensor.name))
    return model


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_storage_is_a_cast(kind):
    done = to_half(residual(), kind)
    onnx.checker.check_model(done.model, full_check=True)
    np.testing.assert_array_equal(run(done.model, optimized=False)[0], run(rounded(kind), optimized=False)[0])
    assert {array.dtype.itemsize for array in stored(done.model).values()} == {2}
    assert done.model.ByteSize() < residual().ByteSize()


def test_fp16_computes():
    done = to_half(residual(), "fp16", "compute")
    onnx.checker.check_model(done.model, full_check=True)
    expected = run(residual())[0]
    assert [value.type.tensor_type.elem_type for value in (*done.model.graph.input, *done.model.graph.output)] == [1, 1]
    found = run(done.model)[0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())
    assert {array.dtype.name for array in stored(done.model).values()} == {"float16"}


@pytest.mark.parametrize("mode", ["storage", "compute"])
def test_layers_that_are_kept(mode):
    done = to_half(residual(), "fp16", mode, keep=["conv2", "class*"])
    onnx.checker.check_model(done.model, full_check=True)
    kinds = {name.split(".")[0]: array.dtype.name for name, array in stored(done.model).items()}
    assert kinds == {"w1": "float16", "b1": "float16", **dict.fromkeys(("w2", "b2", "w3", "b3"), "float32")}
    expected = run(residual())[0]
    np.testing.assert_allclose(run(done.model)[0], expected, atol=0.01 * np.abs(expected).max())


def test_operands_that_onnx_wants_in_float32_stay_so():
    nodes = [
        node("Conv", "x w", "c", name="conv"),
        node("Resize", "c - scales", "u", mode="nearest"),
        node("GlobalMaxPool", "x", "m"),  # scales that are computed, in half: 1, 2, 2
        node("Concat", "one m", "four", axis=1),
        node("Flatten", "four", "flat"),
        node("Squeeze", "flat first", "s"),
        node("Resize", "u - s", "y", mode="nearest"),
    ]
    constants = {
        "w": np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "one": np.ones((1, 1, 1, 1), np.float32),
        "first": np.array([0], np.int64),
    }
    model = model_of(nodes, {"x": (1, 3, 1, 1)}, constants)
    image = np.array([1, 2, 2], np.float32).reshape(1, 3, 1, 1)
    expected = run(model, image)[0]
    assert expected.shape == (1, 4, 4, 4)
    for mode in ("storage", "compute"):
        done = to_half(model, "fp16", mode)
        onnx.checker.check_model(done.model, full_check=True)
        kinds = {name.split(".")[0]: array.dtype.name for name, array in stored(done.model).items()}
        assert (kinds["w"], kinds["scales"]) == ("float16", "float32")
        np.testing.assert_allclose(run(done.model, image)[0], expected, rtol=0.01, atol=0.01)


def test_bf16_computes_where_the_runtime_has_it_or_says_so():
    with pytest.raises(QuantizationError, match="bf16"):
        to_half(residual(), "bf16", "compute")


def small(weight):
    return model_of([node("Conv", "x w", "y", name="conv")], {"x": ("n", 3, 8, 8)}, {"w": weight})


def test_numbers_that_are_too_large():
    weight = np.ones((2, 3, 1, 1), np.float32)
    weight[0, 0] = 65520.0
    done = to_half(small(weight), "fp16")
    assert "larger than 65504" in done.tensors[0].kept
    assert stored(done.model)["w"].dtype == np.float32
    with pytest.raises(QuantizationError, match="w: 65520 is larger"):
        to_half(small(weight), "fp16", "compute")
    assert to_half(small(weight), "bf16").tensors[0].kept is None
    weight[0, 0] = 65504.0
    assert to_half(small(weight), "fp16").tensors[0].kept is None


def test_numbers_that_are_too_small():
    weight = np.float32([[1.0, 1e-6, 0.0], [1e-9, 6.2e-5, 1e-4]]).reshape(2, 3, 1, 1)
    row = to_half(small(weight), "fp16").tensors[0]
    assert (row.largest, row.subnormal) == (1.0, pytest.approx(2 / 5))
    assert to_half(small(weight), "bf16").tensors[0].subnormal == 0
    assert "40.00" in str(to_half(small(weight), "fp16"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_numbers_at_all(bad):
    with pytest.raises(QuantizationError, match="w: holds NaN or infinity"):
        to_half(small(np.full((2, 3, 1, 1), bad, np.float32)), "fp16")


def test_unknown_kinds():
    with pytest.raises(QuantizationError, match="fp16 or bf16"):
        to_half(residual(), "fp8")


def test_the_model_given_stays():
    model = residual()
    before = model.SerializeToString()
    to_half(model, "fp16", "compute")
    assert model.SerializeToString() == before
