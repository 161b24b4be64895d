"""Weights stored as integers and computed with as floats."""

import numpy as np
import onnx
import pytest

from float_networks import kinds, residual, run, stored
from secateur.quantization.numbers import Numbers, rounded
from secateur.quantization.prepare import prepared
from secateur.quantization.settings import Override
from secateur.quantization.weight_only import quantize_weights


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_the_same_as_rounded_weights(bits, packed, per_channel):
    done, table = quantize_weights(residual(), Numbers(bits, True, True), packed=packed, per_channel=per_channel)
    onnx.checker.check_model(done, full_check=True)
    expected = onnx.ModelProto()
    expected.CopyFrom(prepared(residual()))
    for tensor in expected.graph.initializer:
        if tensor.name in table.weights:
            told = rounded(onnx.numpy_helper.to_array(tensor), table.weights[tensor.name])
            tensor.CopyFrom(onnx.numpy_helper.from_array(told, tensor.name))
    for optimized in (False, True):
        np.testing.assert_allclose(run(done, optimized=optimized)[0], run(expected)[0], rtol=1e-4, atol=1e-5)
    assert kinds(done)["QuantizeLinear"] == 0


def test_fewer_bytes():
    sizes = [
        quantize_weights(residual(), Numbers(bits, True, True), packed=bits == 4)[0].ByteSize() for bits in (16, 8, 4)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


def test_layers_that_are_different():
    done, table = quantize_weights(
        residual(), keep_float=["last"], overrides=(Override("conv2", weights=Numbers(4, True, True)),)
    )
    assert {name: scale.numbers.bits for name, scale in table.weights.items()} == {"w1": 8, "w2": 4}
    assert stored(done)["w3"].dtype == np.float32
