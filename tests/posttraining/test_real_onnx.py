"""Real networks of many tools as subjects: every layer of the census, what it gets, and the logits."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from secateur.graph import census_of_onnx, read_model
from secateur.posttraining.geometry import columns_of
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.zoo import Preprocessing

MODELS = (
    "mobilenet_v1_025_imagenet", "mobilenet_v1_075_imagenet", "mobilenet_v2_100_imagenet", "resnet20_cifar10",
    "resnet20_distiller_channel_pruned_cifar10", "resnet20_distiller_dense_cifar10", "resnet20b_cifar10",
    "resnet56_cifar10", "shufflenetv2_x0_5_cifar10", "squeezenet1_0_deepcompressed_imagenet", "squeezenet1_1_imagenet",
)  # fmt: skip


def predicted(subject, name, inputs):
    """What weight, bias and geometry say that the layer gives: (groups * rows, columns)."""
    geometry, weight, bias = subject.geometry(name), subject.weight(name), subject.bias(name)
    columns = columns_of(inputs, geometry)
    values = (weight.reshape(geometry.groups, -1, columns.shape[1]) @ columns).flatten(0, 1)
    return values if bias is None else values + bias[:, None]


def run_alone(model, pixels):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"input": pixels.numpy()})[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_real_networks_give_layers_inputs_and_logits(name, shared_data):
    size = 32 if name.endswith("cifar10") else 224
    file = shared_data / "onnx" / f"{name}.onnx"
    subject = OnnxSubject(read_model(file), Preprocessing((3, size, size)))
    counted = [(layer.name, layer.shape, layer.kind, layer.groups) for layer in census_of_onnx(file).layers]
    assert [(layer.name, layer.shape, layer.kind, layer.groups) for layer in subject.layers] == counted
    assert subject.left_out == {}
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    names = [layer.name for layer in subject.layers]
    # What two layers get gives what the graph itself computes.
    last = subject.order(pixels)[-1]
    seen = {last: [], names[1]: []}
    logits = subject.run(pixels, {key: found.append for key, found in seen.items()})
    np.testing.assert_allclose(logits, run_alone(subject.model, pixels).reshape(2, -1), rtol=1e-4, atol=1e-4)
    for key, (got,) in seen.items():
        use = subject._found.layers[key].uses[0]
        probe = onnx.ModelProto()
        probe.CopyFrom(subject.model)
        probe.graph.output.insert(0, onnx.ValueInfoProto(name=use.node.output[0]))
        expected = run_alone(probe, pixels).movedim(1, 0).flatten(1)
        np.testing.assert_allclose(
            predicted(subject, key, got), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
        )
    for key in (names[0], last):
        bias = subject.bias(key)
        subject.store_(key, subject.weight(key), torch.zeros(len(subject.weight(key))) if bias is None else bias)
    torch.testing.assert_close(subject.run(pixels), logits, rtol=1e-5, atol=1e-5)
    subject.store_(last, torch.zeros_like(subject.weight(last)))
    assert not torch.allclose(subject.run(pixels), logits)
