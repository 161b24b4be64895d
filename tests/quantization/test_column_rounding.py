"""Second-order rounding of a file: less error than nearest, zeros stay, and the writer's rounding changes nothing."""

import numpy as np
import pytest

from onnx_networks import INT4, images, network, table_of, weight_of
from secateur.errors import QuantizationError
from secateur.quantization.answers import logits_of
from secateur.quantization.column_rounding import round_columns
from secateur.quantization.numbers import rounded
from secateur.quantization.simulate import simulated
from secateur.quantization.table import ScaleTable


@pytest.mark.parametrize("inputs", ["float", "rounded"])
def test_less_error_than_nearest_in_every_layer_and_of_the_outputs(inputs):
    model = network(1)
    table = table_of(model, images(), INT4)
    found = round_columns(model, table, images(), inputs=inputs)
    assert found.errors.keys() == {"a", "b", "d", "fc"}
    assert all(own <= nearest for nearest, own in found.errors.values())
    assert found.errors["a"][1] < 0.95 * found.errors["a"][0]
    wanted = logits_of(model, images())
    weights = ScaleTable({}, table.weights, {})
    own, nearest = (
        np.square(logits_of(simulated(each, weights), images()) - wanted).mean() for each in (found.model, model)
    )
    assert own < 0.3 * nearest
    assert "column by column" in str(found)


def test_rounding_to_nearest_afterwards_changes_nothing():
    model = network()
    table = table_of(model, images(), INT4)
    before = model.SerializeToString()
    found = round_columns(model, table, images())
    assert model.SerializeToString() == before
    for name, scale in table.weights.items():
        np.testing.assert_array_equal(rounded(weight_of(found.model, name), scale), weight_of(found.model, name))


def test_zeros_of_a_pruned_file_stay_unless_the_walk_may_use_them():
    model = network(zeros=0.5)
    table = table_of(model, images(), INT4)
    found = round_columns(model, table, images())
    for name in table.weights:
        assert not weight_of(found.model, name)[weight_of(model, name) == 0].any()
    free = round_columns(model, table, images(), keep_zeros=False)
    assert any(weight_of(free.model, name)[weight_of(model, name) == 0].any() for name in table.weights)


def test_layers_without_a_scale_stay_float():
    model = network()
    table = table_of(model, images(), INT4)
    weights = {name: scale for name, scale in table.weights.items() if name != "d.weight"}
    found = round_columns(model, ScaleTable({}, weights, {}), images())
    assert weight_of(found.model, "d.weight").tobytes() == weight_of(model, "d.weight").tobytes()
    assert "d" not in found.errors


def test_a_scale_along_the_inputs_is_refused():
    model = network()
    table = table_of(model, images(), INT4)
    wrong = dict(table.weights) | {"fc.weight": table.weights["a.weight"]}
    with pytest.raises(QuantizationError, match="axis"):
        round_columns(model, ScaleTable({}, wrong, {}), images())
