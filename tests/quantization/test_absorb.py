"""Bias absorption: exact where the ReLU lets everything through, and checked where zeros are padded."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from secateur.quantization.absorb import absorb_biases
from secateur.quantization.answers import logits_of

RANDOM = np.random.default_rng(0)
FIRST = RANDOM.standard_normal((4, 3, 1, 1)).astype(np.float32) * 0.1
SECOND = RANDOM.standard_normal((5, 4, 3, 3)).astype(np.float32)
BIAS = np.array([5.0, -5.0, 0.0, 9.0], np.float32)


def model_of(padding=0, bias=BIAS, between="Relu", second=SECOND, groups=1):
    tensors = {"a.w": FIRST, "a.b": bias, "b.w": second}
    nodes = [
        helper.make_node("Conv", ["x", "a.w", "a.b"], ["p"], name="a"),
        helper.make_node(between, ["p"], ["q"], name="act"),
        helper.make_node("Conv", ["q", "b.w"], ["y"], name="b", pads=[padding] * 4, group=groups),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(count=64):
    # Bounded inputs: nothing lies beyond three deviations where the bias is high.
    pixels = np.random.default_rng(1).uniform(-1, 1, (count, 3, 6, 6)).astype(np.float32)
    return lambda: [pixels]


def bias_of(model, name):
    node = next(node for node in model.graph.node if node.name == name)
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == node.input[2])


def test_high_biases_move_and_the_outputs_stay():
    model = model_of()
    found = absorb_biases(model, images())
    c = found.moved["a"]
    pixels = images()()[0]
    before = np.einsum("oi,nihw->nohw", FIRST[:, :, 0, 0], pixels) + BIAS[:, None, None]
    wanted = np.maximum(0, before.mean((0, 2, 3)) - 3 * before.std((0, 2, 3)))
    np.testing.assert_allclose(c, wanted, atol=1e-4)
    assert c[0] > 4 and c[3] > 8 and c[1] == c[2] == 0
    np.testing.assert_allclose(bias_of(found.model, "a"), BIAS - c, atol=1e-5)
    np.testing.assert_allclose(bias_of(found.model, "b"), SECOND.sum((2, 3)) @ c, rtol=1e-4)
    np.testing.assert_allclose(logits_of(found.model, images()), logits_of(model, images()), atol=2e-3)


def test_a_depthwise_reader_gains_its_own_channels():
    second = RANDOM.standard_normal((4, 1, 3, 3)).astype(np.float32)
    model = model_of(second=second, groups=4)
    found = absorb_biases(model, images())
    np.testing.assert_allclose(bias_of(found.model, "b"), second.sum((1, 2, 3)) * found.moved["a"], rtol=1e-4)
    np.testing.assert_allclose(logits_of(found.model, images()), logits_of(model, images()), atol=2e-3)


def test_padding_is_checked_and_taken_back():
    model = model_of(padding=1)
    refused = absorb_biases(model, images())
    assert refused.refused["a"] > 0.01
    np.testing.assert_array_equal(logits_of(refused.model, images()), logits_of(model, images()))
    assert "taken back" in str(refused)
    allowed = absorb_biases(model, images(), border=10.0)
    assert "a" in allowed.moved
    inside, wanted = (logits_of(m, images()).reshape(-1, 5, 6, 6)[:, :, 1:-1, 1:-1] for m in (allowed.model, model))
    np.testing.assert_allclose(inside, wanted, atol=2e-3)
    assert not absorb_biases(model, images(), border=0.0).moved


def test_only_a_relu_lets_biases_through():
    assert not absorb_biases(model_of(between="LeakyRelu"), images()).moved
    assert not absorb_biases(model_of(bias=np.zeros(4, np.float32)), images()).moved
