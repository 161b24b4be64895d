"""ONNX tensors that several operators read, and models and operators that cannot be worked on."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper

from posttraining.onnx_subjects import SMALL, images, inputs_of, model_of, node, run_alone, tensor
from secateur.errors import ModelError, PosttrainingError
from secateur.posttraining.subject_onnx import OnnxSubject


def shared_model(ir=8):
    """One tensor for two convolutions with biases of their own, and for an operator that is no layer."""
    nodes = [
        node("Conv", ["x", "c.weight", "b1"], "a", pads=[1, 1, 1, 1]),
        node("Conv", ["a", "c.weight"], "b", pads=[1, 1, 1, 1]),
        node("ReduceMean", ["c.weight"], "m", keepdims=0),
        node("Add", ["b", "m"], "y"),
    ]
    return model_of(nodes, [tensor("c.weight", 3, 3, 3, 3), tensor("b1", 3)], ir=ir)


@pytest.mark.parametrize("ir", [3, 8])
def test_a_shared_tensor_is_one_layer_and_other_readers_keep_theirs(ir):
    subject = OnnxSubject(shared_model(ir), SMALL)
    (layer,) = subject.layers
    assert layer.name == "c" and layer.shared == ("Conv_b",)
    pixels, dense, bias = images(), subject.weight("c"), subject.bias("c")
    first, second = inputs_of(subject, "c", pixels)
    assert torch.equal(first, pixels)
    torch.testing.assert_close(second, F.conv2d(pixels, dense, bias, padding=1), rtol=1e-4, atol=1e-4)
    assert len(inputs_of(subject, "Conv_b", pixels)) == 2
    weight, shift = torch.randn_like(dense), torch.arange(3.0)
    for _ in range(2):
        subject.store_("c", weight, bias=bias + shift)
        subject.store_("c", weight)
    a = F.conv2d(pixels, weight, bias + shift, padding=1)
    expected = F.conv2d(a, weight, shift, padding=1) + dense.mean()
    torch.testing.assert_close(torch.from_numpy(run_alone(subject.model, pixels)), expected, rtol=1e-4, atol=1e-3)
    assert len(subject.model.graph.initializer) == 4


def test_a_tensor_that_an_inner_graph_reads_keeps_its_value():
    branches = [
        helper.make_graph([node("Identity", ["c.weight"], name)], name, [], [helper.make_empty_tensor_value_info(name)])
        for name in ("t", "e")
    ]
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True), "")),
        helper.make_node("If", ["yes"], ["w"], then_branch=branches[0], else_branch=branches[1]),
        node("ReduceMean", ["w"], "m", keepdims=0),
        node("Conv", ["x", "c.weight"], "b"),
        node("Add", ["b", "m"], "y"),
    ]
    subject = OnnxSubject(model_of(nodes, [tensor("c.weight", 3, 3, 1, 1)]), SMALL)
    dense = subject.weight("c")
    subject.store_("c", torch.zeros_like(dense))
    np.testing.assert_allclose(run_alone(subject.model, images()), float(dense.mean()), atol=1e-6)


def test_a_tensor_used_both_ways_round_is_left_out():
    nodes = [
        node("Flatten", ["x"], "f"),
        node("Gemm", ["f", "w"], "a"),
        node("Gemm", ["a", "w"], "b", transB=1),
        node("Gemm", ["b", "h.weight"], "y"),
    ]
    subject = OnnxSubject(model_of(nodes, [tensor("w", 192, 192), tensor("h.weight", 192, 2)]), SMALL)
    assert list(subject.left_out) == ["Gemm_a"] and [layer.name for layer in subject.layers] == ["h"]


def test_sharing_with_other_strides_is_a_sentence():
    nodes = [node("Conv", ["x", "c.weight"], "a"), node("Conv", ["a", "c.weight"], "y", strides=[2, 2])]
    subject = OnnxSubject(model_of(nodes, [tensor("c.weight", 3, 3, 1, 1)]), SMALL)
    with pytest.raises(PosttrainingError, match="walk over their inputs differently"):
        subject.geometry("c")


def test_the_given_model_is_not_touched_and_the_digest_follows_what_is_stored():
    given = shared_model()
    before = given.SerializeToString(deterministic=True)
    subject = OnnxSubject(given, SMALL)
    digest = subject.digest()
    assert digest == OnnxSubject(given, SMALL).digest()
    subject.run(images(), {"c": lambda _: None})
    assert subject.digest() == digest
    subject.store_("c", torch.zeros(3, 3, 3, 3))
    assert subject.digest() != digest and given.SerializeToString(deterministic=True) == before


def test_what_cannot_be_worked_on_is_left_out_with_a_reason():
    quantized = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.int8), "q")
    nodes = [
        node("DequantizeLinear", ["q", "s", "z"], "w"),
        node("Conv", ["x", "w"], "a"),
        node("MatMul", ["a", "stack"], "b"),
        node("Gemm", ["f", "zero"], "g", alpha=0.0),
        node("Flatten", ["b"], "flat"),
        node("Gemm", ["flat", "h.weight"], "y"),
    ]
    nodes.insert(3, node("Flatten", ["b"], "f"))
    tensors = [
        quantized,
        numpy_helper.from_array(np.float32(0.5), "s"),
        numpy_helper.from_array(np.int8(0), "z"),
        tensor("stack", 4, 8, 2),
        tensor("zero", 64, 2),
        tensor("h.weight", 64, 2),
    ]
    subject = OnnxSubject(model_of(nodes, tensors), SMALL)
    assert [layer.name for layer in subject.layers] == ["h"]
    assert subject.left_out == {
        "Conv_a": "its weight is quantized",
        "MatMul_b": "its weight is a stack of matrices",
        "Gemm_g": "its product is multiplied with 0.0",
    }


def test_hostile_and_foreign_models_are_sentences():
    nodes, tensors = [node("Conv", ["x", "c.weight"], "y")], [tensor("c.weight", 4, 3, 1, 1)]
    with pytest.raises(ModelError, match=r"reads 'c\.weight'"):
        OnnxSubject(model_of(nodes, []), SMALL)
    with pytest.raises(ModelError, match=r"takes images of \(3, 8, 9\)"):
        OnnxSubject(model_of(nodes, tensors, sides=(3, 8, 9)), SMALL)
    with pytest.raises(ModelError, match="is not float images"):
        OnnxSubject(model_of(nodes, tensors, sides=(3,)), SMALL)
    bad = model_of([node("Conv", ["x", "c.weight"], "y", kernel_shape=[2, 2])], tensors)
    with pytest.raises((ModelError, PosttrainingError)):
        OnnxSubject(bad, SMALL).run(images())
    with pytest.raises(PosttrainingError, match="filters first"):
        OnnxSubject(model_of(nodes, tensors), SMALL).store_("c", torch.zeros(4, 3))
    negative = model_of([node("Conv", ["x", "c.weight"], "y", pads=[-1, 0, 0, 0])], tensors)
    assert list(OnnxSubject(negative, SMALL).left_out) == ["c"]
