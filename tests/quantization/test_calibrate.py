"""Scales from images: what is observed where, in how much memory, with which settings."""

import numpy as np
import pytest

from float_networks import IMAGES, batches, draw, residual, run
from graph_tools import model_of, node
from secateur.errors import DataError, QuantizationError
from secateur.quantization import runs
from secateur.quantization.calibrate import calibrate, observe, table_of, within
from secateur.quantization.numbers import ACTIVATIONS, WEIGHTS, Numbers, scale_of_range
from secateur.quantization.points import Group, points_of
from secateur.quantization.prepare import prepared
from secateur.quantization.settings import Settings

PLAIN = prepared(residual())
POINTS = points_of(PLAIN)


def values(name):
    probe = type(PLAIN)()
    probe.CopyFrom(PLAIN)
    probe.graph.output.append(type(probe.graph.output[0])(name=name))
    return run(probe, outputs=[name])[0]


@pytest.mark.parametrize("name", ["r1", "c2", "r2", "p"])
def test_ranges_are_those_of_the_values(name):
    table = calibrate(PLAIN, batches(), POINTS, observer="minmax")
    found = values(name)
    expected = scale_of_range(found.min(), found.max(), ACTIVATIONS)
    # Batches of another size may be summed in another order.
    np.testing.assert_allclose(table.values[name].step, expected.step, rtol=1e-6)
    assert table.values[name].zero == expected.zero


def test_the_input_too():
    assert calibrate(PLAIN, batches(), POINTS, observer="minmax").values["x"] == scale_of_range(
        IMAGES.min(), IMAGES.max(), ACTIVATIONS
    )


def test_batches_do_not_matter_to_the_extremes():
    tables = [calibrate(PLAIN, batches(size=size), POINTS, observer="minmax") for size in (1, 5, 12)]
    assert tables[0].values["x"] == tables[1].values["x"] == tables[2].values["x"]
    # Products of other batches may be summed in another order.
    for name in tables[0].values:
        np.testing.assert_allclose(tables[0].values[name].step, tables[2].values[name].step, rtol=1e-5)


@pytest.mark.parametrize("bytes_held", [1, 3000, 30_000])
@pytest.mark.parametrize("observer", ["minmax", "moving", "average", "mse"])
def test_little_memory_changes_nothing(monkeypatch, bytes_held, observer):
    expected = calibrate(PLAIN, batches(), POINTS, observer=observer)
    monkeypatch.setattr(runs, "HELD_BYTES", bytes_held)
    groups, together = runs.in_groups(PLAIN, [group.observed for group in POINTS.groups], IMAGES[:1])
    assert len(groups) > 1 or together < len(IMAGES)
    found = calibrate(PLAIN, batches(), POINTS, observer=observer)
    for name, scale in expected.values.items():
        np.testing.assert_allclose(found.values[name].step, scale.step, rtol=1e-4)


def test_values_that_share_a_scale_are_observed_together():
    nodes = [
        node("Conv", "x w1", "a", name="a"), node("Conv", "x w2", "b", name="b"), node("Concat", "a b", "t", axis=1),
        node("Conv", "t w3", "y", name="c"),
    ]  # fmt: skip
    constants = {"w1": draw(2, 3, 1, 1), "w2": draw(2, 3, 1, 1, seed=3, scale=3), "w3": draw(2, 4, 1, 1)}
    plain = prepared(model_of(nodes, {"x": ("n", 3, 8, 8)}, constants))
    points = points_of(plain)
    group = next(index for index, each in enumerate(points.groups) if "t" in each.values)
    seen = observe(plain, batches(), points)[group].statistics()
    probe = type(plain)()
    probe.CopyFrom(plain)
    probe.graph.output.append(type(probe.graph.output[0])(name="t"))
    found = run(probe, outputs=["t"])[0].reshape(len(IMAGES), -1)
    assert (seen.min, seen.max) == (found.min(), found.max())
    assert seen.avg_max == pytest.approx(found.max(axis=1).mean(), rel=1e-5)


def test_weights_by_channel_and_by_tensor():
    weight = draw(8, 3, 3, 3)
    by_channel = calibrate(PLAIN, batches(), POINTS).weights["w1"]
    np.testing.assert_array_equal(by_channel.step, np.abs(weight).reshape(8, -1).max(axis=1) / np.float32(127))
    by_tensor = calibrate(PLAIN, batches(), POINTS, per_channel=False).weights["w1"]
    assert by_tensor == scale_of_range(weight.min(), weight.max(), WEIGHTS)


def test_settings_of_single_layers():
    seen = observe(PLAIN, batches(), POINTS)
    other = Settings(activations=Numbers(4), weights=Numbers(3, True, True))
    table = table_of(PLAIN, POINTS, seen, lambda name, kind: other if name == "conv2" else Settings())
    assert {name: scale.numbers.bits for name, scale in table.values.items()} == {
        "x": 8, "r1": 8, "c2": 4, "r2": 8, "p": 8, "f": 8,
    }  # fmt: skip
    assert {name: scale.numbers.bits for name, scale in table.weights.items()} == {"w1": 8, "w2": 3, "w3": 8}


def test_average_does_not_clip_what_the_last_layer_gives():
    nodes = [node("Conv", "x w1", "a", name="a"), node("Relu", "a", "r"), node("Conv", "r w2", "y", name="b")]
    plain = prepared(model_of(nodes, {"x": ("n", 3, 8, 8)}, {"w1": draw(4, 3, 1, 1), "w2": draw(4, 4, 1, 1)}))
    average, full = (calibrate(plain, batches(), points_of(plain), observer=name) for name in ("average", "minmax"))
    assert average.values["y"] == full.values["y"]
    assert average.values["r"].step < full.values["r"].step


def test_limits_of_sigmoid():
    nodes = [node("Conv", "x w1", "a", name="a"), node("Sigmoid", "a", "s"), node("Conv", "s w2", "y", name="b")]
    constants = {"w1": draw(4, 3, 1, 1, scale=30), "w2": draw(4, 4, 1, 1)}
    plain = prepared(model_of(nodes, {"x": ("n", 3, 8, 8)}, constants))
    table = calibrate(plain, batches(), points_of(plain))
    low, high = table.values["a"].range
    assert -6.03 <= low <= -5.97 and 5.97 <= high <= 6.03
    assert float(table.values["s"].range[1]) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("high", np.random.default_rng(0).uniform(0.1, 20, 30).astype(np.float32).tolist())
def test_ranges_stay_within_a_clip(high):
    group = Group(("y",), ("y",), 0.0, high)
    scale = within(group, scale_of_range(0.0, high, ACTIVATIONS))
    assert float(scale.range[1]) <= high
    assert float(scale.range[1]) == pytest.approx(high, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_named(bad):
    images = IMAGES.copy()
    images[7, 0, 0, 0] = bad
    with pytest.raises(QuantizationError, match="x: holds NaN or infinity on these images"):
        calibrate(PLAIN, batches(images), POINTS)


def test_no_images():
    with pytest.raises(DataError, match="there are none"):
        calibrate(PLAIN, list, POINTS)


def test_labels_and_tensors_are_taken():
    import torch

    pairs = [(torch.from_numpy(IMAGES[:6]), torch.zeros(6)), (torch.from_numpy(IMAGES[6:]), torch.zeros(6))]
    assert calibrate(PLAIN, lambda: pairs, POINTS).values["x"] == calibrate(PLAIN, batches(), POINTS).values["x"]


def test_a_fixed_batch():
    model = residual()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 5
    plain = prepared(model)
    found = calibrate(plain, batches(), points_of(plain))
    expected = calibrate(PLAIN, batches(), POINTS)
    for name, scale in expected.values.items():
        np.testing.assert_allclose(found.values[name].step, scale.step, rtol=1e-5)


def test_a_dead_network_is_calibrated():
    found = calibrate(PLAIN, batches(np.zeros_like(IMAGES)), POINTS)
    assert found.values["x"].step == 1
