"""Activations rounded by the range of each batch: against ONNX's reference formulas, and against the float network."""

import numpy as np
import onnx
import pytest

from float_networks import IMAGES, draw, kinds, residual, run, stored
from graph_tools import model_of, node
from secateur.errors import QuantizationError
from secateur.quantization.dynamic import quantize_dynamic
from secateur.quantization.numbers import ACTIVATIONS, WEIGHTS, Numbers, rounded, scale_of_range, scale_of_tensor
from secateur.quantization.prepare import prepared


def test_a_product_is_what_the_formula_says():
    weight, bias = draw(5, 7), draw(7)
    x = draw(20, 5, scale=2)
    done = quantize_dynamic(
        model_of([node("Gemm", "x w b", "y", name="fc")], {"x": ("n", 5)}, {"w": weight, "b": bias})
    )
    onnx.checker.check_model(done, full_check=True)
    told = rounded(x, scale_of_range(x.min(), x.max(), ACTIVATIONS))
    expected = told @ rounded(weight, scale_of_tensor(weight, WEIGHTS, 1)) + bias
    for optimized in (False, True):
        np.testing.assert_allclose(run(done, x, optimized=optimized)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [8, 4])
def test_a_network(per_channel, bits):
    done = quantize_dynamic(residual(), Numbers(bits, True, True), per_channel=per_channel)
    onnx.checker.check_model(done, full_check=True)
    assert kinds(done)["ConvInteger"] == 2 and kinds(done)["MatMulInteger"] == 1
    expected = run(prepared(residual()))[0]
    bound = (0.05 if bits == 8 else 0.6) * np.abs(expected).max()
    for optimized in (False, True):
        assert np.abs(run(done, optimized=optimized)[0] - expected).max() < bound


def test_nothing_saturates():
    expected = run(prepared(residual()), IMAGES * 1000)[0]
    assert np.abs(run(quantize_dynamic(residual()), IMAGES * 1000)[0] - expected).max() < 0.05 * np.abs(expected).max()


def test_readers_of_one_value_share_its_integers():
    nodes = [node("Conv", "x w", "a", name="a"), node("Conv", "x v", "b", name="b"), node("Add", "a b", "y")]
    done = quantize_dynamic(model_of(nodes, {"x": ("n", 3, 8, 8)}, {"w": draw(4, 3, 1, 1), "v": draw(4, 3, 1, 1)}))
    assert kinds(done)["DynamicQuantizeLinear"] == 1


@pytest.mark.parametrize("kind", [{"strides": [2, 2], "pads": [1, 0, 2, 1]}, {"group": 3, "dilations": [2, 2]}])
def test_attributes_of_convolutions(kind):
    weight = draw(6, 3 // kind.get("group", 1), 3, 3)
    model = model_of(
        [node("Conv", "x w b", "y", name="conv", **kind)], {"x": ("n", 3, 8, 8)}, {"w": weight, "b": draw(6)}
    )
    expected = run(model)[0]
    assert np.abs(run(quantize_dynamic(model))[0] - expected).max() < 0.03 * np.abs(expected).max()


def test_layers_that_stay_float():
    done = quantize_dynamic(residual(), keep_float=["last"])
    assert kinds(done)["Gemm"] == 1 and stored(done)["w3"].dtype == np.float32


@pytest.mark.parametrize("numbers", [Numbers(16, True, True), Numbers(8), Numbers(8, signed=True)])
def test_weights_that_no_kernel_takes(numbers):
    with pytest.raises(QuantizationError):
        quantize_dynamic(residual(), numbers)
