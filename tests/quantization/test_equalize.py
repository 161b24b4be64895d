"""Cross-layer equalisation: the function stays, ranges meet, and what does not commute with scales is left alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnx_networks import values_of
from secateur.errors import QuantizationError
from secateur.quantization.answers import logits_of
from secateur.quantization.equalize import equalize, pair_scale, triple_scales

SIZE = (3, 8, 8)


def array(*shape, seed=0, spread=0.0):
    """Normal numbers; with a spread the filters have magnitudes e^(+-spread)."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(shape)
    scales = np.exp(spread * random.standard_normal((shape[0], *(1,) * (len(shape) - 1))))
    return (values * scales).astype(np.float32)


def conv(name, source, output, weight, bias=None, **attributes):
    inputs = [source, f"{name}.w", *([f"{name}.b"] if bias is not None else [])]
    tensors = [numpy_helper.from_array(weight, f"{name}.w")]
    tensors += [] if bias is None else [numpy_helper.from_array(bias, f"{name}.b")]
    return helper.make_node("Conv", inputs, [output], name=name, **attributes), tensors


def model_of(parts, output="y", extra=()):
    nodes = [part[0] if isinstance(part, tuple) else part for part in parts]
    tensors = [tensor for part in parts if isinstance(part, tuple) for tensor in part[1]] + list(extra)
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SIZE])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], name=f"{op}_{output}", **attributes)


def images(count=4, seed=1):
    pixels = np.random.default_rng(seed).standard_normal((count, *SIZE)).astype(np.float32)
    return lambda: [pixels]


def weight_of(model, name):
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)


def ranges(model, name):
    return np.abs(weight_of(model, f"{name}.w")).max(axis=(1, 2, 3))


def plain_pair(between, extra=(), spread=1.5):
    return model_of(
        [
            conv("a", "x", "p", array(6, 3, 3, 3, spread=spread), array(6, seed=3), pads=[1, 1, 1, 1]),
            *between,
            conv("b", "q", "y", array(5, 6, 3, 3, seed=4), array(5, seed=5)),
        ],
        extra=extra,
    )


def same_function(before, after, tolerance=1e-5):
    wanted, got = logits_of(before, images()), logits_of(after, images())
    assert np.abs(wanted - got).max() <= tolerance * np.abs(wanted).max()


def test_the_published_pair():
    scale = pair_scale(np.array([4.0, 1.0]), np.array([1.0, 9.0]))
    np.testing.assert_allclose(scale, [2.0, 1 / 3])
    np.testing.assert_allclose(np.array([4.0, 1.0]) / scale, [2.0, 3.0])
    np.testing.assert_allclose(np.array([1.0, 9.0]) * scale, [2.0, 3.0])


def test_the_published_triple():
    s12, s23 = triple_scales(np.array([8.0]), np.array([1.0]), np.array([1.0]))
    np.testing.assert_allclose([s12[0], s23[0]], [4.0, 2.0])
    np.testing.assert_allclose([8 / s12[0], 1 * s12[0] / s23[0], 1 * s23[0]], [2.0, 2.0, 2.0])


@given(st.lists(st.tuples(*[st.floats(1e-3, 1e3)] * 3), min_size=1, max_size=5))
def test_a_triple_meets_in_the_geometric_mean(rows):
    r1, r2, r3 = np.array(rows).T
    s12, s23 = triple_scales(r1, r2, r3)
    mean = np.cbrt(r1 * r2 * r3)
    for after in (r1 / s12, r2 * s12 / s23, r3 * s23):
        np.testing.assert_allclose(after, mean, rtol=1e-9)


def test_a_channel_of_zeros_keeps_its_scale():
    np.testing.assert_array_equal(pair_scale(np.array([0.0, 4.0]), np.array([1.0, 1.0])), [1.0, 2.0])


@pytest.mark.parametrize("op", ["Relu", "LeakyRelu", "MaxPool", "AveragePool", "Identity"])
def test_a_pair_around(op):
    attributes = {"kernel_shape": [2, 2]} if op.endswith("Pool") else {}
    model = plain_pair([node(op, ["p"], "q", **attributes)])
    found = equalize(model, input_shape=SIZE)
    same_function(model, found.model)
    assert found.scales.keys() == {"a"}
    read = np.abs(weight_of(found.model, "b.w")).max(axis=(0, 2, 3))
    np.testing.assert_allclose(ranges(found.model, "a"), read, rtol=1e-4)
    wanted = np.sqrt(ranges(model, "a") * np.abs(weight_of(model, "b.w")).max(axis=(0, 2, 3)))
    np.testing.assert_allclose(read, wanted, rtol=1e-4)


def test_a_prelu_keeps_its_slopes():
    slopes = numpy_helper.from_array(array(6, 1, 1, seed=8), "slope")
    model = plain_pair([node("PRelu", ["p", "slope"], "q")], [slopes])
    found = equalize(model, input_shape=SIZE)
    assert "a" in found.scales
    same_function(model, found.model)


def test_padding_with_zeros_lets_scales_through_and_other_numbers_do_not():
    pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads")
    half = numpy_helper.from_array(np.array(0.5, np.float32), "half")
    zeros = plain_pair([node("Relu", ["p"], "r"), node("Pad", ["r", "pads"], "q")], [pads])
    halves = plain_pair([node("Relu", ["p"], "r"), node("Pad", ["r", "pads", "half"], "q")], [pads, half])
    found = equalize(zeros, input_shape=SIZE)
    same_function(zeros, found.model)
    assert "a" in found.scales
    assert "something else than zeros" in equalize(halves, input_shape=SIZE).blocked["a"]


@pytest.mark.parametrize(
    ("between", "word"),
    [
        ([node("HardSwish", ["p"], "q")], "hard-swish"),
        ([node("Sigmoid", ["p"], "s"), node("Mul", ["p", "s"], "q")], "2 operators"),
        ([node("Sigmoid", ["p"], "q")], "squeeze-excite"),
        ([node("Relu", ["p"], "r"), node("Add", ["r", "r"], "q")], "Add"),
    ],
)
def test_what_blocks(between, word):
    model = plain_pair(between)
    found = equalize(model, input_shape=SIZE)
    assert word in found.blocked["a"]
    assert not found.scales
    assert weight_of(found.model, "a.w").tobytes() == weight_of(model, "a.w").tobytes()


def triple(activation):
    return model_of(
        [
            conv("a", "x", "p", array(6, 3, 1, 1, spread=2), array(6, seed=3)),
            activation("p", "q"),
            conv("d", "q", "r", array(6, 1, 3, 3, seed=6, spread=2), array(6, seed=7), group=6, pads=[1, 1, 1, 1]),
            activation("r", "s"),
            conv("b", "s", "y", array(5, 6, 1, 1, seed=4), array(5, seed=5)),
        ],
        extra=[numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("zero", 0.0), ("six", 6.0))],
    )


def test_a_triple_around_a_depthwise_layer():
    model = triple(lambda source, output: node("Relu", [source], output))
    found = equalize(model, input_shape=SIZE)
    same_function(model, found.model)
    read = np.abs(weight_of(found.model, "b.w")).max(axis=(0, 2, 3))
    np.testing.assert_allclose(ranges(found.model, "a"), read, rtol=1e-4)
    np.testing.assert_allclose(ranges(found.model, "d"), read, rtol=1e-4)


def relu6(source, output):
    return node("Clip", [source, "zero", "six"], output)


def test_relu6_is_kept_clipped_by_channel_or_replaced():
    model = triple(relu6)
    kept = equalize(model, input_shape=SIZE)
    assert not kept.scales
    assert "ReLU6" in kept.blocked["a"]
    clipped = equalize(model, relu6="clip", input_shape=SIZE)
    assert clipped.scales.keys() == {"a", "d"}
    same_function(model, clipped.model)
    # Enough answers change when the bound goes: the bounds stay, one for each channel.
    strict = equalize(model, relu6="replace", batches=images(32), agreement=1.0)
    assert strict.relu6 == "clip"
    same_function(model, strict.model)
    loose = equalize(model, relu6="replace", batches=images(32), agreement=0.0)
    assert loose.relu6 == "replace"
    assert not any(n.op_type in ("Clip", "Min") for n in loose.model.graph.node)


@pytest.mark.parametrize("relu6", ["clip", "replace"])
def test_relu6_of_old_opsets_has_its_bounds_as_attributes(relu6):
    model = triple(lambda source, output: node("Clip", [source], output, min=0.0, max=6.0))
    model.opset_import[0].version = 9
    found = equalize(model, relu6=relu6, input_shape=SIZE, batches=images(32), agreement=0.0)
    assert found.scales.keys() == {"a", "d"}
    kinds = [n.op_type for n in found.model.graph.node]
    assert kinds.count("Relu") == 2 and kinds.count("Min") == (2 if relu6 == "clip" else 0)
    if relu6 == "clip":
        same_function(model, found.model)


def test_flattened_maps_reach_the_linear_layer():
    fc = numpy_helper.from_array(array(4, 6 * 64, seed=9), "fc.w")
    model = model_of(
        [
            conv("a", "x", "p", array(6, 3, 3, 3, spread=2), array(6, seed=3), pads=[1, 1, 1, 1]),
            node("Relu", ["p"], "r"),
            node("Flatten", ["r"], "f"),
            (helper.make_node("Gemm", ["f", "fc.w"], ["y"], name="fc", transB=1), [fc]),
        ]
    )
    found = equalize(model, input_shape=SIZE)
    same_function(model, found.model)
    read = np.abs(weight_of(found.model, "fc.w")).reshape(4, 6, 64).max(axis=(0, 2))
    np.testing.assert_allclose(ranges(found.model, "a"), read, rtol=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, 2, 3]))
def test_any_chain_keeps_its_function(seed, groups):
    model = model_of(
        [
            conv("a", "x", "p", array(6, 3, 1, 1, seed=seed, spread=2), array(6, seed=seed + 1)),
            node("Relu", ["p"], "q"),
            conv("g", "q", "r", array(12, 6 // groups, 3, 3, seed=seed + 2, spread=1), group=groups),
            node("LeakyRelu", ["r"], "s", alpha=0.2),
            conv("b", "s", "y", array(5, 12, 1, 1, seed=seed + 3), array(5, seed=seed + 4)),
        ]
    )
    found = equalize(model, input_shape=SIZE)
    assert found.scales.keys() == {"a", "g"}
    same_function(model, found.model)


@pytest.mark.parametrize("loud", [1.0, 1e6])
def test_a_nearly_dead_channel_has_no_say_and_is_never_the_largest(loud):
    """Others are divided by a thousand: a dead channel that kept its factor would be the largest of them."""
    first, second = array(6, 3, 3, 3) * 1e3, array(5, 6, 3, 3, seed=4) * 1e-3
    first[2] *= 1e-9
    second[:, 2] *= loud
    model = model_of(
        [conv("a", "x", "p", first, array(6, seed=3)), node("Relu", ["p"], "q"), conv("b", "q", "y", second)]
    )
    found = equalize(model, input_shape=SIZE)
    same_function(model, found.model)
    made, read = ranges(found.model, "a"), np.abs(weight_of(found.model, "b.w")).max(axis=(0, 2, 3))
    assert made[2] <= made.max() and read[2] <= np.delete(read, 2).max() * (1 + 1e-5)
    np.testing.assert_allclose(np.delete(made, 2), np.delete(read, 2), rtol=1e-4)


def test_what_a_channel_reaches_counts_like_its_weights():
    """A channel of small weights whose bias makes it the strongest: images keep it from being stretched further."""
    weight, bias = array(6, 3, 3, 3), np.zeros(6, np.float32)
    weight[2] *= 1e-3
    bias[2] = 10.0
    model = model_of(
        [
            conv("a", "x", "p", weight, bias),
            node("Relu", ["p"], "q"),
            conv("b", "q", "y", array(5, 6, 3, 3, seed=4)),
        ]
    )
    blind, seeing = equalize(model, input_shape=SIZE), equalize(model, batches=images())
    for found in (blind, seeing):
        same_function(model, found.model)
    reach = [values_of(found.model, images(), ("q",))["q"].max((0, 2, 3)) for found in (blind, seeing)]
    shares = [each[2] / np.median(each) for each in reach]
    before = values_of(model, images(), ("q",))["q"].max((0, 2, 3))
    assert shares[0] > 20 * before[2] / np.median(before)
    assert shares[1] < 2 * before[2] / np.median(before)


def test_the_given_model_is_not_changed_and_the_result_prints():
    model = plain_pair([node("Relu", ["p"], "q")])
    before = model.SerializeToString()
    text = str(equalize(model, input_shape=SIZE))
    assert model.SerializeToString() == before
    assert "an output of the network reads it" in text
    assert "1 layers equalised" in text


def test_errors():
    model = plain_pair([node("Relu", ["p"], "q")])
    with pytest.raises(QuantizationError, match="keep"):
        equalize(model, relu6="sometimes", input_shape=SIZE)  # type: ignore[arg-type]
    with pytest.raises(QuantizationError, match="calibration images"):
        equalize(model, relu6="replace", input_shape=SIZE)
