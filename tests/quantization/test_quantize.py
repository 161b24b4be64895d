"""All of it at once, on networks of torch and on files of others."""

import numpy as np
import pytest
import torch

from float_networks import batches, kinds, residual, run, stored
from secateur.export import export_onnx
from secateur.graph import read_model
from secateur.quantization.numbers import Numbers
from secateur.quantization.quantize import QuantizationOptions, quantize_model
from secateur.quantization.settings import Override
from tiny_networks import Tiny


def test_the_defaults():
    done = quantize_model(residual(), batches())
    expected, found = run(done.float_model)[0], run(done.model)[0]
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert done.report.agreement >= 90
    assert set(done.statistics) == set(done.table.values)


def test_the_same_twice():
    first, second = (quantize_model(residual(), batches()) for _ in range(2))
    assert first.model.SerializeToString(deterministic=True) == second.model.SerializeToString(deterministic=True)


def test_a_network_of_torch(tmp_path):
    torch.manual_seed(0)
    network = Tiny().eval()
    network.norm.running_mean.normal_()
    network.norm.running_var.uniform_(0.5, 2)
    path = export_onnx(network, tmp_path / "tiny.onnx", (3, 16, 16))
    images = torch.randn(32, 3, 16, 16).numpy()
    done = quantize_model(read_model(path), batches(images, 8))
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    assert np.abs(run(done.model, images)[0] - expected).max() < 0.05 * np.abs(expected).max()
    assert set(done.table.weights) == {
        f"{name}.weight" for name in ("stem", "body", "depthwise", "point", "classifier")
    }
    assert done.report.operators["QLinearConv"] == 4
    assert done.report.operators["QGemm"] == 1


def test_reduced_range():
    done = quantize_model(residual(), batches(), QuantizationOptions(reduce_range=True))
    assert np.abs(stored(done.model)["w1.quantized"]).max() == 63


@pytest.mark.parametrize("keep", ["last", "classifier", "linear"])
def test_layers_that_stay_float(keep):
    done = quantize_model(residual(), batches(), QuantizationOptions(keep_float=(keep,)))
    assert set(done.table.floats) >= {"classifier"}
    assert "w3" in stored(done.model)


def test_all_layers_float_is_the_float_file():
    done = quantize_model(residual(), batches(), QuantizationOptions(keep_float=("*",)))
    assert kinds(done.model)["QuantizeLinear"] == 0
    assert done.report.max_abs == 0


def test_overrides():
    override = Override("conv2", weights=Numbers(4, True, True), activations=Numbers(6), observer="mse")
    done = quantize_model(residual(), batches(), QuantizationOptions(overrides=(override,)))
    assert done.table.weights["w2"].numbers.bits == 4
    assert done.table.values["c2"].numbers.bits == 6
    assert done.table.weights["w1"].numbers.bits == 8


def test_zeros_of_a_sparse_network_stay():
    model = residual()
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            array = np.array(np.frombuffer(tensor.raw_data, np.float32).reshape(tuple(tensor.dims)))
            array[np.random.default_rng(0).random(array.shape) < 0.8] = 0
            tensor.raw_data = array.tobytes()
    done = quantize_model(model, batches())
    assert not stored(done.model)["w2.quantized"][array == 0].any()
