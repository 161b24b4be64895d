"""An ONNX file as a subject: read, watched and written where its operators find their weights."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from posttraining.onnx_subjects import SMALL, as_rows, images, inputs_of, model_of, node, predicted, run_alone, tensor
from secateur.export import export_onnx
from secateur.graph import read_model
from secateur.posttraining import subject_onnx
from secateur.posttraining.gathering import gather_grams
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.posttraining.subject_torch import TorchSubject
from tiny_networks import Tiny

CONVOLUTIONS = {
    "plain": {"pads": [1, 1, 1, 1]},
    "none": {},
    "asymmetric": {"pads": [0, 1, 2, 0]},
    "strided": {"pads": [1, 0, 1, 1], "strides": [2, 3]},
    "dilated": {"pads": [2, 2, 2, 2], "dilations": [2, 2]},
    "upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "lower": {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    "upper3": {"auto_pad": "SAME_UPPER", "strides": [3, 1]},
    "valid": {"auto_pad": "VALID"},
    "grouped": {"pads": [1, 1, 1, 1], "group": 3},
}


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_weight_bias_and_geometry_give_the_convolution(case, with_bias):
    attributes = CONVOLUTIONS[case]
    weight = tensor("c.weight", 6, 3 // attributes.get("group", 1), 3, 2)
    inputs = ["x", "c.weight", "b"] if with_bias else ["x", "c.weight"]
    subject = OnnxSubject(model_of([node("Conv", inputs, "y", **attributes)], [weight, tensor("b", 6)]), SMALL)
    assert subject.layers[0].kind == ("depthwise" if case == "grouped" else "conv")
    assert (subject.bias("c") is not None) == with_bias
    pixels = images()
    (got,) = inputs_of(subject, "c", pixels)
    assert torch.equal(got, pixels)
    torch.testing.assert_close(
        predicted(subject, "c", got), as_rows(run_alone(subject.model, pixels)), rtol=1e-4, atol=1e-4
    )


def test_padding_before_the_convolution_is_part_of_what_it_gets():
    nodes = [
        node("Pad", ["x", "pads"], "padded", mode="reflect"),
        node("Conv", ["padded", "c.weight"], "y"),
    ]
    pads = numpy_helper.from_array(np.array([0, 0, 1, 2, 0, 0, 1, 0]), "pads")
    subject = OnnxSubject(model_of(nodes, [pads, tensor("c.weight", 4, 3, 3, 3)]), SMALL)
    (got,) = inputs_of(subject, "c", images())
    assert torch.equal(got, F.pad(images(), (2, 0, 1, 1), mode="reflect"))


def linear_model(case):
    """x -> flatten -> a product that gives 5 outputs."""
    flat = node("Flatten", ["x"], "f")
    if case == "gemm":
        return model_of([flat, node("Gemm", ["f", "w", "b"], "y")], [tensor("w", 192, 5), tensor("b", 5)])
    if case == "gemm transB":
        return model_of([flat, node("Gemm", ["f", "w", "b"], "y", transB=1)], [tensor("w", 5, 192), tensor("b", 1, 5)])
    if case == "gemm alpha beta":
        made = node("Gemm", ["f", "w", "b"], "y", transB=1, alpha=0.5, beta=3.0)
        return model_of([flat, made], [tensor("w", 5, 192), tensor("b", 1)])
    if case == "gemm transA":
        turned = node("Transpose", ["f"], "t")
        return model_of([flat, turned, node("Gemm", ["t", "w"], "y", transA=1)], [tensor("w", 192, 5)])
    if case == "matmul":
        return model_of([flat, node("MatMul", ["f", "w"], "y")], [tensor("w", 192, 5)])
    if case == "matmul add":
        nodes = [flat, node("MatMul", ["f", "w"], "p"), node("Add", ["b", "p"], "y")]
        return model_of(nodes, [tensor("w", 192, 5), tensor("b", 5)])
    if case == "matmul one matrix":
        nodes = [flat, node("MatMul", ["f", "w"], "p"), node("Squeeze", ["p", "axis"], "y")]
        return model_of(nodes, [tensor("w", 1, 192, 5), numpy_helper.from_array(np.array([0]), "axis")])
    if case == "transposed":
        nodes = [flat, node("Transpose", ["w"], "wt", perm=[1, 0]), node("MatMul", ["f", "wt"], "y")]
        return model_of(nodes, [tensor("w", 5, 192)])
    if case == "constant":
        constant = helper.make_node("Constant", [], ["w"], value=tensor("", 192, 5))
        return model_of([flat, constant, node("MatMul", ["f", "w"], "y")], [])
    if case == "left":
        nodes = [flat, node("Transpose", ["f"], "t"), node("MatMul", ["w", "t"], "p"), node("Add", ["p", "b"], "q")]
        return model_of([*nodes, node("Transpose", ["q"], "y")], [tensor("w", 5, 192), tensor("b", 5, 1)])
    assert case == "left gemm"
    nodes = [flat, node("Gemm", ["w", "f"], "p", transA=1, transB=1), node("Transpose", ["p"], "y")]
    return model_of(nodes, [tensor("w", 192, 5)])


LINEAR = (
    "gemm", "gemm transB", "gemm alpha beta", "gemm transA", "matmul", "matmul add", "matmul one matrix", "transposed",
    "constant", "left", "left gemm",
)  # fmt: skip


@pytest.mark.parametrize("case", LINEAR)
def test_products_are_read_and_written_as_outputs_by_inputs(case):
    subject = OnnxSubject(linear_model(case), SMALL)
    (layer,) = subject.layers
    name = layer.name
    assert layer.shape == (5, 192) and layer.kind == "linear"
    pixels = images(4)
    flat = pixels.flatten(1)
    (got,) = inputs_of(subject, name, pixels)
    assert torch.equal(got.reshape(-1, 192), flat)
    torch.testing.assert_close(predicted(subject, name, got), as_rows(subject.run(pixels)), rtol=1e-4, atol=1e-4)
    before = subject.bias(name)
    assert (before is not None) == (case in ("gemm", "gemm transB", "gemm alpha beta", "matmul add", "left"))
    # weight alone: the bias stays
    weight = torch.randn(5, 192)
    subject.store_(name, weight)
    torch.testing.assert_close(subject.weight(name), weight, rtol=1e-6, atol=0)
    torch.testing.assert_close(subject.run(pixels), F.linear(flat, weight, before), rtol=1e-4, atol=1e-4)
    # then both, twice
    for bias in (torch.randn(5), torch.randn(5)):
        mask = torch.rand(5, 192) < 0.5
        subject.store_(name, weight, bias, mask)
        torch.testing.assert_close(subject.weight(name), weight * mask, rtol=1e-6, atol=0)
        torch.testing.assert_close(subject.bias(name), bias)
        expected = F.linear(flat, weight * mask, bias)
        torch.testing.assert_close(subject.run(pixels), expected, rtol=1e-4, atol=1e-4)
    assert subject.run(pixels).shape == (4, 5)
    again = OnnxSubject(subject.model, SMALL)
    torch.testing.assert_close(again.bias(again.layers[0].name), bias)
    assert len(subject.model.graph.initializer) <= 4  # nothing that nobody reads is left


def test_a_convolution_without_bias_gains_one():
    subject = OnnxSubject(model_of([node("Conv", ["x", "c.weight"], "y")], [tensor("c.weight", 4, 3, 1, 1)]), SMALL)
    before = run_alone(subject.model, images())
    subject.store_("c", subject.weight("c"), bias=torch.arange(4.0))
    np.testing.assert_allclose(run_alone(subject.model, images()), before + np.arange(4).reshape(4, 1, 1), atol=1e-5)
    subject.store_("c", subject.weight("c"), bias=torch.zeros(4))
    np.testing.assert_allclose(run_alone(subject.model, images()), before, atol=1e-6)
    assert len(subject.model.graph.initializer) == 2


def test_a_convolution_whose_bias_is_computed_gets_an_addition():
    nodes = [
        node("ReduceMean", ["x"], "m", axes=[0, 1, 2, 3], keepdims=0),
        node("Expand", ["m", "shape"], "b"),
        node("Conv", ["x", "c.weight", "b"], "y"),
    ]
    shape = numpy_helper.from_array(np.array([4]), "shape")
    subject = OnnxSubject(model_of(nodes, [tensor("c.weight", 4, 3, 1, 1), shape]), SMALL)
    before = run_alone(subject.model, images())
    assert subject.bias("c") is None
    for _ in range(2):
        subject.store_("c", subject.weight("c"), bias=torch.arange(4.0))
        after = run_alone(subject.model, images())
        np.testing.assert_allclose(after, before + np.arange(4).reshape(4, 1, 1), atol=1e-5)
    assert [n.op_type for n in subject.model.graph.node].count("Add") == 1
    assert torch.equal(subject.bias("c"), torch.arange(4.0))


def test_a_transposed_convolution_is_filters_first():
    nodes = [node("ConvTranspose", ["x", "up.weight"], "y", group=3, strides=[2, 2])]
    subject = OnnxSubject(model_of(nodes, [tensor("up.weight", 3, 2, 2, 2)]), SMALL)
    assert subject.geometry("up").kind == subject.layers[0].kind == "conv_transpose"
    weight = torch.randn(6, 1, 2, 2)
    subject.store_("up", weight, bias=torch.arange(6.0))
    assert torch.equal(subject.weight("up"), weight)
    stored = weight.reshape(3, 2, 2, 2)
    expected = F.conv_transpose2d(images(), stored, torch.arange(6.0), stride=2, groups=3)
    torch.testing.assert_close(torch.from_numpy(run_alone(subject.model, images())), expected, rtol=1e-4, atol=1e-4)


def test_half_precision_keeps_its_type():
    nodes = [node("Conv", ["x", "c.weight"], "y")]
    made = model_of(nodes, [tensor("c.weight", 4, 3, 1, 1, dtype=np.float16)], dtype=TensorProto.FLOAT16)
    subject = OnnxSubject(made, SMALL)
    assert subject.weight("c").dtype == torch.float32
    subject.store_("c", torch.ones(4, 3, 1, 1), bias=torch.ones(4))
    assert {t.data_type for t in subject.model.graph.initializer} == {TensorProto.FLOAT16}
    torch.testing.assert_close(
        subject.run(images()).float(),
        (images().sum(1, keepdim=True) + 1).expand(-1, 4, -1, -1).flatten(1),
        atol=0.02,
        rtol=0.01,
    )


@pytest.mark.parametrize("held", [1 << 29, 1, 5000])
@pytest.mark.parametrize("batch", ["n", 1, 2, 4])
def test_memory_and_fixed_batches_do_not_change_the_result(batch, held, monkeypatch):
    nodes = [
        node("Conv", ["x", "c.weight"], "a", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], "r"),
        node("GlobalAveragePool", ["r"], "p"),
        node("Flatten", ["p"], "f"),
        node("Gemm", ["f", "h.weight"], "y"),
    ]
    tensors = [tensor("c.weight", 4, 3, 3, 3), tensor("h.weight", 4, 2)]
    whole = OnnxSubject(model_of(nodes, tensors), SMALL)
    pixels = images(7)
    expected = {name: inputs_of(whole, name, pixels)[0] for name in ("c", "h")}
    monkeypatch.setattr(subject_onnx, "HELD_BYTES", held)
    subject = OnnxSubject(model_of(nodes, tensors, batch=batch), SMALL)
    for name, inputs in expected.items():
        torch.testing.assert_close(torch.cat(inputs_of(subject, name, pixels)), inputs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(subject.run(pixels), whole.run(pixels), rtol=1e-5, atol=1e-6)
    seen: list[torch.Tensor] = []
    assert subject.run(pixels, {"c": seen.append}, stop_early=True) is None
    assert torch.equal(torch.cat(seen), pixels)


def test_an_exported_network_is_the_same_subject(tmp_path):
    torch.manual_seed(0)
    network = Tiny().eval()
    export_onnx(network, tmp_path / "tiny.onnx", (3, 16, 16))
    ours = OnnxSubject(read_model(tmp_path / "tiny.onnx"), network.preprocessing)
    theirs = TorchSubject(network)
    pixels = images(5, size=16)
    assert ours.order(pixels) == theirs.order(pixels)
    torch.testing.assert_close(ours.run(pixels), theirs.run(pixels), rtol=1e-4, atol=1e-4)
    for name in ("body", "depthwise", "classifier"):
        assert ours.geometry(name) == theirs.geometry(name)
        torch.testing.assert_close(ours.weight(name), theirs.weight(name))
    grams = [gather_grams(each, lambda: [pixels], ["body", "depthwise"], limit=9) for each in (ours, theirs)]
    for name in ("body", "depthwise"):
        torch.testing.assert_close(grams[0][name].matrix, grams[1][name].matrix, rtol=1e-3, atol=1e-5)
