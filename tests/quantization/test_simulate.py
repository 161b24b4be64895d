"""Simulation: the integers' arithmetic in floats, values and weights each, whatever the bits."""

import numpy as np
import pytest

from onnx_networks import INT4, SIZE, VALUES, images, network, table_of, values_of, weight_of
from secateur.errors import QuantizationError
from secateur.quantization.answers import logits_of
from secateur.quantization.numbers import Numbers, rounded, scale_of_range
from secateur.quantization.simulate import SUFFIX, simulated
from secateur.quantization.subjects import stored_layers
from secateur.quantization.table import ScaleTable


def test_weights_become_what_their_integers_stand_for():
    model = network()
    table = table_of(model, images(), INT4, None)
    found = simulated(model, table)
    for name, scale in table.weights.items():
        np.testing.assert_array_equal(weight_of(found, name), rounded(weight_of(model, name), scale))
    assert (
        weight_of(simulated(model, table, weights=False), "a.weight").tobytes()
        == weight_of(model, "a.weight").tobytes()
    )


@pytest.mark.parametrize("numbers", [Numbers(8), Numbers(3), Numbers(8, signed=True), Numbers(12)])
def test_values_are_rounded_where_they_are_read(numbers):
    model = network()
    table = table_of(model, images(), activations=numbers, names=("x", "a.out"))
    found = simulated(model, table, weights=False)
    values = values_of(found, images(), ("a.out", f"a.out{SUFFIX}", f"x{SUFFIX}"))
    np.testing.assert_array_equal(values[f"a.out{SUFFIX}"], rounded(values["a.out"], table.values["a.out"]))
    np.testing.assert_array_equal(values[f"x{SUFFIX}"], rounded(values["x"], table.values["x"]))
    assert not any("a.out" in node.input for node in found.graph.node if node.op_type in ("Conv", "Add"))


def test_an_output_of_the_network_keeps_its_name_and_is_rounded():
    model = network()
    logits = logits_of(model, images())
    scale = scale_of_range(logits.min(), logits.max(), Numbers(4))
    found = simulated(model, ScaleTable({"y": scale}, {}, {}))
    np.testing.assert_array_equal(logits_of(found, images()), rounded(logits, scale))


def test_an_empty_table_changes_nothing_and_layers_keep_their_names():
    model = network()
    np.testing.assert_array_equal(logits_of(simulated(model, ScaleTable()), images()), logits_of(model, images()))
    found = simulated(model, table_of(model, images()))
    assert stored_layers(found, SIZE).keys() == stored_layers(model, SIZE).keys()
    assert all(any(node.input[0] == f"{name}{SUFFIX}" for node in found.graph.node) for name in VALUES)


def test_a_table_of_another_model():
    scale = scale_of_range(0.0, 1.0, Numbers(8))
    with pytest.raises(QuantizationError, match="'nobody'"):
        simulated(network(), ScaleTable({"nobody": scale}, {}, {}))
    with pytest.raises(QuantizationError, match="weight 'w'"):
        simulated(network(), ScaleTable({}, {"w": scale}, {}))
