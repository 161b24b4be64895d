"""Bias correction: the outputs of quantized layers have the float network's means afterwards."""

import numpy as np
import pytest

from graph_tools import model_of, node
from onnx_networks import INT4, images, network, table_of, values_of, weight_of
from secateur.quantization.bias_correct import correct_biases
from secateur.quantization.column_rounding import round_columns
from secateur.quantization.numbers import Numbers, rounded
from secateur.quantization.simulate import simulated

OUTPUTS = ("a.pre", "d.pre", "b.pre", "y")
INT3 = Numbers(3, signed=True, symmetric=True)


def means(model):
    found = values_of(model, images(), OUTPUTS)
    return {name: found[name].reshape(48, found[name].shape[1], -1).mean((0, 2)) for name in OUTPUTS}


def test_means_of_all_layers_are_those_of_the_float_network():
    model = network()
    table = table_of(model, images(), INT3, Numbers(4))
    wanted, before = means(model), means(simulated(model, table))
    found = correct_biases(model, table, images())
    after = means(simulated(found.model, table))
    for name in OUTPUTS:
        assert np.abs(before[name] - wanted[name]).max() > 1e-2
        # b.pre is a value of the table itself, so that its step is what is left of it there.
        np.testing.assert_allclose(after[name], wanted[name], atol=1e-4)
    assert found.shifts.keys() == {"a", "d", "b", "fc"}
    assert "largest" in str(found)


def test_the_form_of_float_inputs_by_hand():
    model = network()
    table = table_of(model, images(), INT3)
    found = correct_biases(model, table, images(), inputs="float")
    weight = weight_of(model, "b.weight")
    lost = weight - rounded(weight, table.weights["b.weight"])
    mean = values_of(model, images(), ("d.out",))["d.out"].mean((0, 2, 3))
    np.testing.assert_allclose(found.shifts["b"], lost[:, :, 0, 0] @ mean, atol=1e-5)
    fc = weight_of(model, "fc.weight")
    lost = fc - rounded(fc, table.weights["fc.weight"])
    mean = values_of(model, images(), ("pooled",))["pooled"].mean(0)
    np.testing.assert_allclose(found.shifts["fc"], mean @ lost, atol=1e-5)


def test_weights_that_are_on_the_grid_already_are_compared_with_the_reference():
    model = network()
    table = table_of(model, images(), INT3)
    on_grid = round_columns(model, table, images()).model
    found = correct_biases(on_grid, table, images(), reference=model)
    wanted, after = means(model), means(simulated(found.model, table))
    np.testing.assert_allclose(after["a.pre"], wanted["a.pre"], atol=1e-4)
    np.testing.assert_array_equal(weight_of(found.model, "a.weight"), weight_of(on_grid, "a.weight"))


@pytest.mark.parametrize("inputs", ["quantized", "float"])
def test_the_given_model_stays(inputs):
    model = network()
    before = model.SerializeToString()
    correct_biases(model, table_of(model, images(), INT4), images(), inputs=inputs)
    assert model.SerializeToString() == before


def test_every_use_of_a_weight_gets_its_own_shift():
    draw = np.random.default_rng(0).standard_normal
    nodes = [
        node("Conv", "x w b", "u", name="head", pads=[1, 1, 1, 1]),
        node("Neg", "x", "n", name="neg"),
        node("Conv", "n w b", "v", name="other", pads=[1, 1, 1, 1]),
        node("Add", "u v", "y", name="sum"),
    ]
    constants = {"w": draw((8, 3, 3, 3)).astype(np.float32), "b": draw(8).astype(np.float32)}
    model = model_of(nodes, {"x": ("n", 3, 8, 8)}, constants)
    pixels = np.random.default_rng(1).random((16, 3, 8, 8), np.float32)
    table = table_of(model, lambda: [pixels], INT4, None)
    found = correct_biases(model, table, lambda: [pixels])
    wanted = values_of(model, lambda: [pixels], ("u", "v"))
    before = values_of(simulated(model, table), lambda: [pixels], ("u", "v"))
    after = values_of(simulated(found.model, table), lambda: [pixels], ("u", "v"))
    for name in ("u", "v"):
        mean = wanted[name].mean((0, 2, 3))
        assert np.abs(before[name].mean((0, 2, 3)) - mean).max() > 0.1
        np.testing.assert_allclose(after[name].mean((0, 2, 3)), mean, atol=1e-4)
    np.testing.assert_allclose(found.shifts["head"], -found.shifts["other"], atol=1e-4)
