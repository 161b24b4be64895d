"""The refinements inside `quantize_model`: each is done when asked for, and what is written is what was refined."""

import dataclasses

import numpy as np
import pytest

from onnx_networks import INT4, images, network, weight_of
from secateur.errors import QuantizationError
from secateur.quantization.answers import logits_of
from secateur.quantization.learned_rounding import LearnOptions
from secateur.quantization.numbers import rounded
from secateur.quantization.qdq import write_qdq
from secateur.quantization.quantize import QuantizationOptions, quantize_model
from secateur.quantization.refine import MixedBits, Refinements

IMAGES = images(64, batch=32)
QUICK = LearnOptions(steps=30, learning_rate=0.05)


def quantized(model, **changes):
    return quantize_model(model, IMAGES, QuantizationOptions(weights=INT4, refinements=Refinements(**changes)))


def error(model, found):
    wanted = logits_of(model, IMAGES)
    return float(np.square(logits_of(found.model, IMAGES, optimized=False) - wanted).mean())


def test_by_default_nothing_is_refined():
    found = quantized(network(1))
    assert found.source is found.float_model
    assert all(value is None for value in dataclasses.astuple(found.refined))
    assert str(found.refined) == ""


@pytest.mark.parametrize("rounding", ["columns", "learned"])
def test_rounding_and_biases(rounding):
    model = network(1)
    plain = error(model, quantized(model))
    found = quantized(model, rounding=rounding, learn=QUICK, correct_biases=True)
    assert error(model, found) < 0.5 * plain
    assert found.model.SerializeToString() == write_qdq(found.source, found.table).SerializeToString()
    for name, scale in found.table.weights.items():
        np.testing.assert_array_equal(rounded(weight_of(found.source, name), scale), weight_of(found.source, name))
    np.testing.assert_array_equal(logits_of(found.float_model, IMAGES), logits_of(model, IMAGES))
    assert "corrected biases" in str(found.refined)


def test_steps_of_weights_with_the_least_error():
    model = network(1)
    found, plain = quantized(model, weight_steps="mse"), quantized(model)
    for name, scale in plain.table.weights.items():
        weight = weight_of(model, name)
        lost = [np.square(rounded(weight, own) - weight).sum() for own in (found.table.weights[name], scale)]
        assert lost[0] < lost[1]


def test_equalisation_and_absorption_come_before_the_observation():
    model = network(1)
    found = quantized(model, equalize="clip", absorb=True)
    assert found.refined.equalized is not None and found.refined.equalized.scales
    assert found.refined.absorbed is not None
    np.testing.assert_allclose(logits_of(found.float_model, IMAGES), logits_of(model, IMAGES), atol=0.05)
    assert found.table.values["d.out"].range[1] != pytest.approx(6.0, rel=1e-3)


def test_a_layer_that_the_guard_returns_has_its_own_weights():
    model = network(5)
    bias = weight_of(model, "fc.bias") - logits_of(model, IMAGES).mean(0)
    next(tensor for tensor in model.graph.initializer if tensor.name == "fc.bias").raw_data = bias.tobytes()
    found = quantized(model, rounding="columns", correct_biases=True, guard=0.0)
    guarded = found.refined.guarded
    assert guarded is not None and guarded.returned
    for row in guarded.returned:
        node = next(node for node in found.source.graph.node if node.name == row.node)
        if node.op_type in ("Conv", "Gemm"):
            name = node.input[1]
            np.testing.assert_array_equal(weight_of(found.source, name), weight_of(model, name.removesuffix(".float")))
    assert found.table == guarded.table
    assert found.model.SerializeToString() == guarded.model.SerializeToString()


def test_mixed_precision_within_a_budget_of_bits_or_of_agreement():
    model = network(1)
    found = quantized(model, mixed=MixedBits((2, 4, 8), average=5.0))
    assert found.refined.bits is not None and found.refined.bits.average <= 5.0
    bits = {name: scale.numbers.bits for name, scale in found.table.weights.items()}
    assert bits == found.refined.bits.bits and len(set(bits.values())) > 1
    loose = quantized(model, mixed=MixedBits((2, 8), agreement=1.0))
    assert set(loose.refined.bits.bits.values()) == {2}
    for budget in ({}, {"average": 4.0, "agreement": 0.1}):
        with pytest.raises(QuantizationError, match="budget"):
            MixedBits(**budget)


@pytest.mark.parametrize(
    "change", [{"equalize": "often"}, {"rounding": "up"}, {"weight_steps": "short"}, {"guard": 2.0}]
)
def test_options_that_cannot_be(change):
    with pytest.raises(QuantizationError):
        Refinements(**change)
