"""The quantized file: what it computes, to the bit; what runtimes make of it; the traps of ALGORITHMS.md H9."""

import numpy as np
import onnx
import openvino
import pytest
import torch

from float_networks import IMAGES, batches, draw, kinds, residual, run, stored
from graph_tools import model_of, node
from secateur.errors import QuantizationError
from secateur.quantization.calibrate import calibrate
from secateur.quantization.numbers import (
    ACTIVATIONS,
    WEIGHTS,
    Numbers,
    Scale,
    rounded,
    scale_of_range,
    scale_of_tensor,
    to_integers,
)
from secateur.quantization.points import points_of
from secateur.quantization.prepare import prepared
from secateur.quantization.qdq import bias_integers, settled, write_qdq
from secateur.quantization.runs import integer_operators
from secateur.quantization.table import ScaleTable


def quantized(model, images=IMAGES, packed=False, keep=(), **options):
    """Prepared float model, table, quantized model; the last one valid."""
    plain = prepared(model)
    table = calibrate(plain, batches(images), points_of(plain, keep_float=keep), **options)
    written = write_qdq(plain, table, packed=packed)
    onnx.checker.check_model(written, full_check=True)
    return plain, table, written


def in_openvino(model, images=IMAGES):
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return np.array(compiled([images])[0])


CONV = [node("Conv", "x w b", "c", name="conv", pads=[1, 1, 1, 1]), node("Relu", "c", "y")]


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_convolution_is_what_torch_simulates(per_channel):
    weight, bias = draw(6, 3, 3, 3) * np.geomspace(0.1, 10, 6, dtype=np.float32)[:, None, None, None], draw(6, seed=1)
    model = model_of(CONV, {"x": ("n", 3, 8, 8)}, {"w": weight, "b": bias})
    _, table, written = quantized(model, per_channel=per_channel)
    scale, own, out = table.values["x"], table.weights["w"], table.values["y"]
    x = torch.fake_quantize_per_tensor_affine(torch.from_numpy(IMAGES), float(scale.step), int(scale.zero), 0, 255)
    steps = np.broadcast_to(own.step, 6).copy()
    w = torch.fake_quantize_per_channel_affine(
        torch.from_numpy(weight), torch.from_numpy(steps), torch.zeros(6, dtype=torch.int32), 0, -127, 127
    )
    b = torch.from_numpy(np.rint(bias / (scale.step * steps)) * (scale.step * steps))
    y = torch.relu(torch.nn.functional.conv2d(x, w, b, padding=1))
    y = torch.fake_quantize_per_tensor_affine(y, float(out.step), int(out.zero), 0, 255)
    for optimized in (False, True):
        found = run(written, optimized=optimized)[0]
        steps_apart = np.abs(found - y.numpy()) / out.step
        # A sum between two integers may fall to either side.
        assert steps_apart.max() <= 1.001
        assert (steps_apart > 0.01).mean() < 0.01


def test_integers_in_onnxruntime():
    _, _, written = quantized(residual())
    assert integer_operators(written) == {
        "QLinearConv": 2, "QLinearAdd": 1, "QLinearGlobalAveragePool": 1, "Flatten": 1, "QGemm": 1,
        "QuantizeLinear": 1, **({"Transpose": integer_operators(written).get("Transpose", 0)} if "Transpose" in
        integer_operators(written) else {}),
    }  # fmt: skip


@pytest.mark.parametrize("high", [6.0, 1.0, 4.7])
def test_a_clip_is_not_done_twice(high):
    nodes = [node("Conv", "x w b", "c", pads=[1] * 4), node("Clip", "c zero six", "y")]
    constants = {"w": draw(6, 3, 3, 3, scale=3), "b": draw(6), "zero": np.float32(0), "six": np.float32(high)}
    _, table, written = quantized(model_of(nodes, {"x": ("n", 3, 8, 8)}, constants))
    assert "Clip" not in integer_operators(written)
    assert float(table.values["y"].step) == pytest.approx(high / 255)
    assert float(run(written)[0].max()) <= high


def test_zeros_stay_zeros():
    weight = draw(6, 3, 3, 3)
    weight[:, 1] = 0
    weight[3] = 0
    _, _, written = quantized(model_of(CONV, {"x": ("n", 3, 8, 8)}, {"w": weight, "b": draw(6)}))
    integers = stored(written)["w.quantized"]
    assert integers.dtype == np.int8
    assert np.array_equal(integers == 0, weight == 0) or not integers[weight == 0].any()


def test_weights_are_stored_once_as_bytes():
    _, _, written = quantized(residual())
    assert {array.dtype.name for name, array in stored(written).items() if array.ndim > 1} == {"int8"}
    assert "w1" not in stored(written)


def test_biases_have_the_step_of_input_and_weight():
    _, table, written = quantized(residual())
    held = stored(written)
    assert held["b2.quantized"].dtype == np.int32
    np.testing.assert_array_equal(held["b2.step"], table.values["r1"].step * table.weights["w2"].step)
    np.testing.assert_allclose(held["b2.quantized"] * held["b2.step"], draw(8, seed=3), atol=held["b2.step"].max() / 2)


def test_one_rounding_between_a_convolution_and_its_relu():
    _, _, written = quantized(residual())
    readers = [each.op_type for each in written.graph.node for name in each.input if name == "c1"]
    assert readers == ["Relu"]
    assert kinds(written)["QuantizeLinear"] == 6


def test_outputs_keep_their_names():
    _, _, written = quantized(model_of(CONV, {"x": ("n", 3, 8, 8)}, {"w": draw(6, 3, 3, 3), "b": draw(6)}))
    assert [value.name for value in written.graph.output] == ["y"]
    last = next(each for each in written.graph.node if "y" in each.output)
    assert last.op_type == "DequantizeLinear"


def test_the_model_given_is_left_as_it_is():
    plain = prepared(residual())
    before = plain.SerializeToString(deterministic=True)
    table = calibrate(plain, batches(), points_of(plain))
    write_qdq(plain, table)
    assert plain.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions(groups):
    nodes = [node("ConvTranspose", "x w b", "y", name="up", group=groups, strides=[2, 2])]
    constants = {"w": draw(4, 6 // groups, 2, 2), "b": draw(6)}
    images = draw(3, 4, 5, 5, scale=1)
    plain, table, written = quantized(model_of(nodes, {"x": ("n", 4, 5, 5)}, constants), images)
    assert table.weights["w"].axis == 1
    error = np.abs(run(written, images)[0] - run(plain, images)[0]).max()
    assert error < 0.03 * np.abs(run(plain, images)[0]).max()


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemms_either_way_round(transposed):
    weight = draw(7, 5)
    constants = {"w": weight if transposed else weight.T.copy(), "b": draw(7)}
    model = model_of([node("Gemm", "x w b", "y", transB=transposed)], {"x": ("n", 5)}, constants)
    images = draw(20, 5, scale=1)
    plain, table, written = quantized(model, images)
    assert table.weights["w"].step.shape == (7,)
    for optimized in (False, True):
        np.testing.assert_allclose(run(written, images, optimized=optimized)[0], run(plain, images)[0], atol=0.03)
    assert integer_operators(written) == {"QGemm": 1, "QuantizeLinear": 1}


def test_products_of_more_axes():
    nodes = [node("MatMul", "x w", "m", name="mix"), node("Add", "m b", "y")]
    images = draw(6, 4, 5, scale=1)
    plain, _, written = quantized(model_of(nodes, {"x": ("n", 4, 5)}, {"w": draw(5, 7), "b": draw(7)}), images)
    np.testing.assert_allclose(run(written, images)[0], run(plain, images)[0], atol=0.03)
    assert "MatMul" not in integer_operators(written)


def test_float_layers_read_what_is_not_rounded():
    _, _, written = quantized(residual(), keep=["first"])
    first = next(each for each in written.graph.node if each.name == "conv1")
    assert list(first.input) == ["x", "w1", "b1"]
    assert kinds(written)["QuantizeLinear"] == 4
    assert "w1" in stored(written) and "w1.quantized" not in stored(written)


def test_shapes_are_asked_of_integers():
    nodes = [
        node("Conv", "x w b", "c", name="conv1"), node("Relu", "c", "r"), node("Shape", "r", "s", end=1),
        node("Concat", "s rest", "shape", axis=0), node("Reshape", "r shape", "t"),
        node("Gemm", "t w2 b2", "y", name="fc"),
    ]  # fmt: skip
    constants = {"w": draw(4, 3, 8, 8), "b": draw(4), "rest": np.array([4]), "w2": draw(4, 3), "b2": draw(3)}
    _, _, written = quantized(model_of(nodes, {"x": ("n", 3, 8, 8)}, constants))
    shape = next(each for each in written.graph.node if each.op_type == "Shape")
    assert shape.input[0] == "r.quantized"


def test_dead_channels_keep_their_biases():
    weight, bias = draw(6, 3, 3, 3), draw(6, seed=1)
    weight[2] = 0
    bias[2] = 0.7331
    nodes = [node("Conv", "x w b", "y", pads=[1] * 4)]
    _, table, written = quantized(model_of(nodes, {"x": ("n", 3, 8, 8)}, {"w": weight, "b": bias}))
    held = stored(written)
    assert held["b.quantized"][2] * np.float64(held["b.step"][2]) == pytest.approx(0.7331, rel=1e-5)
    # Half a step of the output, which one step for all channels makes coarse.
    assert np.abs(run(written)[0][:, 2] - 0.7331).max() <= table.values["y"].step * 0.51


@pytest.mark.parametrize("size", [1e-7, 1e-20, 1e-30])
def test_tiny_weights_do_not_make_their_bias_overflow(size):
    weight, bias = draw(6, 3, 3, 3), draw(6, seed=1)
    weight[2] *= np.float32(size)
    bias[2] = 100.0
    nodes = [node("Conv", "x w b", "y", pads=[1] * 4)]
    plain, table, written = quantized(model_of(nodes, {"x": ("n", 3, 8, 8)}, {"w": weight, "b": bias}))
    assert np.abs(stored(written)["b.quantized"]).max() <= 2**30 + 128
    for optimized in (False, True):
        found = run(written, optimized=optimized)[0]
        assert np.abs(found - run(plain)[0])[:, 2].max() <= table.values["y"].step * 0.51


def test_settling_is_done_once():
    weight = draw(6, 3, 3, 3)
    weight[2] = 0
    plain, table, _ = quantized(model_of(CONV, {"x": ("n", 3, 8, 8)}, {"w": weight, "b": draw(6)}))
    once = settled(plain, table)
    assert settled(plain, once) == once


def test_bias_of_no_step():
    integers, steps = bias_integers(np.float32([0.0, 1.0]), np.float32([0.0, 1e-45]))
    assert steps.tolist() == [np.finfo(np.float32).tiny] * 2
    assert integers.tolist() == [0, 2**31 - 1]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("packed", [False, True])
def test_fewer_bits(bits, packed):
    weights = Numbers(bits, signed=True, symmetric=True)
    plain, table, written = quantized(residual(), weights=weights, packed=packed)
    expected = {name: rounded(stored(plain)[name], table.weights[name]) for name in ("w1", "w2", "w3")}
    told = [f"{name}.dequantized" for name in expected]
    probe = onnx.ModelProto()
    probe.CopyFrom(written)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in told)
    for name, found in zip(expected, run(probe, outputs=told, optimized=False), strict=True):
        np.testing.assert_array_equal(found, expected[name])
        assert len(np.unique(stored(written)[f"{name}.quantized"].astype(np.int8))) <= 2**bits - 1
    kind = next(tensor.data_type for tensor in written.graph.initializer if tensor.name == "w1.quantized")
    assert kind == (onnx.TensorProto.INT4 if packed and bits <= 4 else onnx.TensorProto.INT8)


@pytest.mark.parametrize("bits", [2, 4, 7])
def test_activations_of_fewer_bits_saturate(bits):
    numbers = Numbers(bits)
    _, table, written = quantized(residual(), numbers=numbers)
    probe = onnx.ModelProto()
    probe.CopyFrom(written)
    probe.graph.output.append(onnx.ValueInfoProto(name="x.dequantized"))
    for optimized in (False, True):
        found = run(probe, IMAGES * 3, ["x.dequantized"], optimized)[0]
        np.testing.assert_array_equal(found, rounded(IMAGES * 3, table.values["x"]))
        assert len(np.unique(found)) <= 2**bits


def test_sixteen_bits():
    numbers = Numbers(16)
    plain, _, written = quantized(residual(), numbers=numbers)
    weights_only = run(write_qdq(plain, calibrate_weights(plain)))[0]
    assert written.opset_import[0].version >= 21
    np.testing.assert_allclose(run(written)[0], weights_only, atol=2e-3)


def calibrate_weights(plain):
    """A table of weights alone."""
    table = calibrate(plain, batches(), points_of(plain))
    return ScaleTable({}, table.weights, {})


def test_weights_alone():
    plain = prepared(residual())
    written = write_qdq(plain, calibrate_weights(plain))
    assert kinds(written)["QuantizeLinear"] == 0
    assert "b1" in stored(written)
    expected = onnx.ModelProto()
    expected.CopyFrom(plain)
    for tensor in expected.graph.initializer:
        if tensor.name in ("w1", "w2", "w3"):
            told = rounded(onnx.numpy_helper.to_array(tensor), calibrate_weights(plain).weights[tensor.name])
            tensor.CopyFrom(onnx.numpy_helper.from_array(told, tensor.name))
    np.testing.assert_allclose(run(written)[0], run(expected)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("numbers", "weights"),
    [
        (ACTIVATIONS, WEIGHTS),
        (Numbers(8, signed=True), WEIGHTS),
        (Numbers(8, signed=True, symmetric=True), WEIGHTS),
        (Numbers(8, signed=True, symmetric=True, restricted=False), Numbers(8, True, True, False)),
        (Numbers(8, symmetric=True), WEIGHTS),
        (ACTIVATIONS, Numbers(8)),
        (ACTIVATIONS, Numbers(8, signed=True)),
    ],
)
@pytest.mark.parametrize("per_channel", [True, False])
def test_every_kind_of_integers_in_every_runtime(numbers, weights, per_channel):
    plain, _, written = quantized(residual(), numbers=numbers, weights=weights, per_channel=per_channel)
    expected = run(plain)[0]
    simulated = run(written, optimized=False)[0]
    bound = 0.06 * np.abs(expected).max()
    assert np.abs(simulated - expected).max() < bound
    assert np.abs(run(written)[0] - simulated).max() < bound
    assert np.abs(in_openvino(written) - simulated).max() < bound


@pytest.mark.parametrize("tail", ["none", "Relu", "Clip"])
@pytest.mark.parametrize(("bits", "said"), [(8, True), (8, False), (6, True)])
def test_float_layers_between_integers_stay_float_in_every_runtime(tail, bits, said):
    """ONNX Runtime rounds the weights of such layers by itself, with one step for all channels."""
    spread = np.geomspace(1e-4, 1, 8, dtype=np.float32)[:, None, None, None]
    nodes = [
        node("Conv", "x w1 b1", "a", name="one", pads=[1] * 4), node("Relu", "a", "r"),
        node("Conv", "r w2 b2", "c" if tail != "none" else "t", name="two", pads=[1] * 4),
        *({"Relu": [node("Relu", "c", "t")], "Clip": [node("Clip", "c zero six", "t")]}.get(tail, [])),
        node("Conv", "t w3 b1", "y", name="three"),
    ]  # fmt: skip
    constants = {
        "w1": draw(8, 3, 3, 3), "b1": draw(8, seed=1), "w2": draw(8, 8, 3, 3, seed=2) * spread, "b2": draw(8) * 1e-4,
        "w3": draw(8, 8, 1, 1, seed=4) / spread.reshape(1, 8, 1, 1), "zero": np.float32(0), "six": np.float32(6),
    }  # fmt: skip
    model = model_of(nodes, {"x": ("n", 3, 8, 8)}, constants)
    plain, table, written = quantized(model, keep=["two"] if said else [], numbers=Numbers(bits))
    if not said:
        weights = {name: scale for name, scale in table.weights.items() if name != "w2"}
        written = write_qdq(plain, ScaleTable(table.values, weights))
    simulated, found = run(written, optimized=False)[0], run(written)[0]
    # One step of the value between them, through the third layer; rounding of all weights would be hundreds.
    between = float(table.values["t"].step) * np.abs(constants["w3"]).max()
    assert np.abs(found - simulated).max() <= between + 2 * table.values["y"].step
    assert np.abs(in_openvino(written) - simulated).max() <= between + 2 * table.values["y"].step


def test_a_table_of_another_model_is_refused():
    plain, table, _ = quantized(residual())
    with pytest.raises(QuantizationError, match="computes no value 'nowhere'"):
        write_qdq(plain, ScaleTable({"nowhere": table.values["x"]}))
    with pytest.raises(QuantizationError, match="stores no weight 'nowhere'"):
        write_qdq(plain, ScaleTable({}, {"nowhere": table.weights["w1"]}))
    with pytest.raises(QuantizationError, match="3 steps"):
        write_qdq(plain, ScaleTable({}, {"w1": scale_of_tensor(draw(3, 2), WEIGHTS, 0)}))
    with pytest.raises(QuantizationError, match="one step"):
        write_qdq(plain, ScaleTable({"x": scale_of_tensor(draw(3, 2), ACTIVATIONS, 0)}))


def test_a_weight_that_a_float_layer_shares():
    nodes = [
        node("Conv", "x w b", "c", name="one", pads=[1] * 4), node("Relu", "c", "r"),
        node("Conv", "r w b", "y", name="two", pads=[1] * 4),
    ]  # fmt: skip
    model = model_of(nodes, {"x": ("n", 3, 8, 8)}, {"w": draw(3, 3, 3, 3), "b": draw(3)})
    plain, _, written = quantized(model, keep=["two"])
    second = next(each for each in written.graph.node if each.name == "two")
    assert list(second.input) == ["r.kept", "w", "b"]
    assert np.abs(run(written)[0] - run(plain)[0]).max() < 0.03 * np.abs(run(plain)[0]).max()


def test_numbers_of_a_hand_made_table_are_kept():
    plain = prepared(model_of(CONV, {"x": ("n", 3, 8, 8)}, {"w": draw(6, 3, 3, 3), "b": draw(6)}))
    table = ScaleTable(
        {"x": Scale(np.float32(0.25), np.int32(128), None, ACTIVATIONS), "y": scale_of_range(0, 3, ACTIVATIONS)}
    )
    probe = write_qdq(plain, table)
    probe.graph.output.append(onnx.ValueInfoProto(name="x.quantized"))
    np.testing.assert_array_equal(run(probe, outputs=["x.quantized"])[0], to_integers(IMAGES, table.values["x"]))
