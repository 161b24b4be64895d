"""Learned rounding: less error than nearest on held-out images, never more, and always on the grid."""

import dataclasses

import numpy as np
import pytest

from graph_tools import model_of, node
from onnx_networks import INT4, images, network, table_of, weight_of
from secateur.errors import QuantizationError
from secateur.quantization.answers import logits_of
from secateur.quantization.learned_rounding import LearnOptions, learn_rounding
from secateur.quantization.numbers import rounded
from secateur.quantization.simulate import simulated

QUICK = LearnOptions(steps=60, learning_rate=0.05)
IMAGES = images(128, batch=64)


def outputs_error(model, reference, table):
    wanted = logits_of(reference, images(64, seed=9))
    return float(np.square(logits_of(simulated(model, table), images(64, seed=9)) - wanted).mean())


def test_layers_beat_nearest_by_their_own_loss_and_the_network_by_its_outputs():
    model = network(1)
    table = table_of(model, IMAGES, INT4)
    before = model.SerializeToString()
    found = learn_rounding(model, table, IMAGES, QUICK)
    assert model.SerializeToString() == before
    assert [row.name for row in found.stretches] == ["a", "d", "b", "fc"]
    a = found.stretches[0]
    assert a.kept and a.learned < 0.9 * a.nearest and a.turned > 0.0
    assert found.learned < 0.5 * found.nearest
    # Images that nobody has seen.
    assert outputs_error(found.model, model, table) < outputs_error(model, model, table)
    for name, scale in table.weights.items():
        np.testing.assert_array_equal(rounded(weight_of(found.model, name), scale), weight_of(found.model, name))
    assert "held" not in str(found)
    assert "learned" in str(found)


def test_blocks_with_dropped_values_gradients_and_learned_steps():
    model = network(1)
    table = table_of(model, IMAGES, INT4)
    options = dataclasses.replace(QUICK, unit="block", drop=0.5, fisher=True, step_rate=1e-3)
    found = learn_rounding(model, table, IMAGES, options)
    assert [row.name for row in found.stretches] == ["a", "d .. b", "fc"]
    assert found.learned < found.nearest
    assert any(found.table.values[name] != scale for name, scale in table.values.items())
    assert found.table.weights == table.weights
    assert outputs_error(found.model, model, found.table) < outputs_error(model, model, table)


def test_what_is_worse_than_nearest_is_not_kept():
    model = network(2)
    table = table_of(model, IMAGES, INT4)
    wild = dataclasses.replace(QUICK, steps=3, learning_rate=1e4, warmup=0.0, regularizer=100.0)
    found = learn_rounding(model, table, IMAGES, wild)
    assert not any(row.kept for row in found.stretches)
    assert found.learned == found.nearest
    for name, scale in table.weights.items():
        np.testing.assert_array_equal(weight_of(found.model, name), rounded(weight_of(model, name), scale))


def test_zeros_stay_zeros():
    model = network(1, zeros=0.5)
    found = learn_rounding(model, table_of(model, IMAGES, INT4), IMAGES, dataclasses.replace(QUICK, steps=20))
    for name in ("a.weight", "d.weight", "b.weight", "fc.weight"):
        assert not weight_of(found.model, name)[weight_of(model, name) == 0].any()


def test_all_uses_of_a_weight_are_rounded_alike():
    # y is twice the bias, whatever the weight, as long as both operators have the same one.
    nodes = [node("Conv", "x w b", "u", name="one"), node("Neg", "x", "n", name="neg")]
    nodes += [node("Conv", "n w b", "v", name="two"), node("Add", "u v", "y", name="sum")]
    draw = np.random.default_rng(0).standard_normal
    constants = {"w": draw((4, 3, 3, 3)).astype(np.float32), "b": draw(4).astype(np.float32)}
    model = model_of(nodes, {"x": ("n", 3, 8, 8)}, constants)
    found = learn_rounding(model, table_of(model, IMAGES, INT4, None), IMAGES, QUICK)
    assert [row.name for row in found.stretches] == ["one", "two"]
    assert found.nearest < 1e-10 and found.learned < 1e-10
    assert not np.array_equal(weight_of(found.model, "w"), constants["w"])


def test_without_time_everything_goes_to_nearest():
    model = network(1)
    table = table_of(model, IMAGES, INT4)
    found = learn_rounding(model, table, IMAGES, dataclasses.replace(QUICK, seconds=0.0))
    assert all(row.learned is None for row in found.stretches)
    np.testing.assert_array_equal(
        weight_of(found.model, "a.weight"), rounded(weight_of(model, "a.weight"), table.weights["a.weight"])
    )


def test_the_same_seed_gives_the_same_rounding():
    model = network(1)
    table = table_of(model, IMAGES, INT4)
    first, second = (learn_rounding(model, table, IMAGES, dataclasses.replace(QUICK, steps=15)) for _ in range(2))
    assert first.model.SerializeToString() == second.model.SerializeToString()


@pytest.mark.parametrize(
    "change", [{"unit": "network"}, {"steps": 0}, {"drop": 0.0}, {"warmup": 1.0}, {"fisher": True}]
)
def test_options_that_cannot_be(change):
    with pytest.raises(QuantizationError):
        dataclasses.replace(QUICK, **change)


def test_one_image_is_not_enough():
    model = network(1)
    with pytest.raises(QuantizationError, match="two images"):
        learn_rounding(model, table_of(model, IMAGES, INT4), images(1), QUICK)
