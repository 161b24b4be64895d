"""Networks put together for a target: the target holds, the network is what was chosen, errors are sentences."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import small_database as small
from secateur.errors import PosttrainingError, RecipeError
from secateur.posttraining.database import DENSE
from secateur.posttraining.dynamic import solvers
from secateur.posttraining.losses import Losses
from secateur.posttraining.stitch import StitchSettings, apply_, solve
from secateur.posttraining.target import Target
from secateur.sparsity import census, masks


@pytest.fixture(scope="module")
def dense():
    return small.subject()


@pytest.fixture(scope="module")
def database(tmp_path_factory, dense):
    return small.database(tmp_path_factory.mktemp("db"), dense, small.PATTERNS)


@pytest.fixture(scope="module")
def facts(dense, database):
    return small.facts(dense, database)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.sampled_from(["sparsity", "parameters", "macs", "bytes", "seconds"]),
    st.floats(0.0, 1.0),
    st.sampled_from(sorted(solvers)),
)
def test_targets_hold_or_are_said_to_be_out_of_reach(database, facts, kind, value, solver):
    target = Target(kind, value, relative=kind != "sparsity")
    try:
        found = solve(database, target, settings=StitchSettings(facts=facts, solver=solver))
    except PosttrainingError as error:
        assert "the cheapest options come to" in str(error)
        assert value > 0.85 if kind == "sparsity" else value < 0.6
        return
    assert found.cost <= found.budget
    assert found.cost == pytest.approx(found.fixed + math.fsum(layer.cost for layer in found.layers))
    if kind == "sparsity":
        assert found.sparsity >= value - 1e-6
    else:
        assert found.cost <= value * found.dense


def test_sparsity_is_that_of_the_network_afterwards(database):
    for value in (0.3, 0.5, 0.8):
        subject = small.subject()
        found = solve(database, Target("sparsity", value))
        apply_(subject, database, found)
        counted = census(subject.model)
        assert counted.sparsity == found.sparsity >= value
        assert {layer.name: layer.weights - layer.nonzeros for layer in counted.layers} == {
            layer.name: layer.zeros for layer in found.layers
        }


def test_excluded_layers_count_as_dense_and_others_are_pruned_harder(database):
    weights = {name: own.layer.weights for name, own in database.layers.items()}
    held = StitchSettings(excluded={"stem": "first layer", "classifier": "asked for"})
    whole = solve(database, Target("sparsity", 0.5), settings=held)
    own = solve(database, Target("sparsity", 0.5, base="selected"), settings=held)
    assert whole.levels["stem"] == own.levels["classifier"] == 0.0
    assert whole.sparsity >= 0.5
    zeros = sum(layer.zeros for layer in own.layers)
    selected = sum(weights.values()) - weights["stem"] - weights["classifier"]
    assert zeros >= 0.5 * selected and own.sparsity < whole.sparsity
    assert "first layer" in str(whole)


def test_caps_and_floors_bound_every_level(database):
    found = solve(database, Target("sparsity", 0.4), settings=StitchSettings(cap=0.5, caps={"point": 0.25}))
    assert max(found.levels.values()) <= 0.5 and found.levels["point"] <= 0.25
    found = solve(database, Target("sparsity", 0.4), settings=StitchSettings(floor=0.5))
    assert max(found.levels.values()) <= 0.5
    with pytest.raises(PosttrainingError, match=r"with cap 0\.5\. Prune those too"):
        solve(database, Target("sparsity", 0.6), settings=StitchSettings(cap=0.5))


def test_no_target_means_no_change(database):
    found = solve(database, Target("sparsity", 0.0))
    assert found.error == 0.0 and {layer.pattern for layer in found.layers} == {DENSE}
    subject, before = small.subject(), small.subject().digest()
    apply_(subject, database, found)
    assert subject.digest() == before


def test_coefficients_turn_the_choice(database):
    plain = solve(database, Target("sparsity", 0.5))
    dear = solve(database, Target("sparsity", 0.5), settings=StitchSettings(coefficients={"point": 1e6}))
    assert dear.levels["point"] == 0.0 < plain.levels["point"]
    assert dear.error > plain.error, "the sum that is told is without coefficients"


def test_absolute_errors_are_squared_errors_of_one_image(database, facts, dense):
    """By hand: the squared difference of the layer's outputs, mean over the calibration images."""
    stitched = solve(database, Target("sparsity", 0.5), "absolute", StitchSettings(facts=facts))
    own = next(layer for layer in stitched.layers if layer.name == "point")
    inputs = []
    for images in small.batches():
        dense.run(images, {"point": inputs.append})
    difference = dense.weight("point") - database.load("point", own.option).weight
    squared = torch.nn.functional.conv2d(torch.cat(inputs), difference).square().sum() / 16
    energy = database.layers["point"].energy * facts.census.layer("point").positions
    assert own.error * energy == pytest.approx(float(squared), rel=1e-4)
    assert stitched.error == pytest.approx(
        sum(
            layer.error * database.layers[layer.name].energy * facts.census.layer(layer.name).positions
            for layer in stitched.layers
        )
    )


def test_shifts_go_into_biases_however_often_they_are_applied(tmp_path, dense):
    database = small.database(tmp_path, dense, levels=(0.5,), centered=True)
    subject = small.subject()
    found = solve(database, Target("sparsity", 0.5))
    half = [layer for layer in found.layers if layer.level]
    assert len(half) == len(found.layers)
    for _ in range(2):
        apply_(subject, database, found, masks=False)
        for layer in half:
            shift, bias = database.load(layer.name, layer.option).shift, dense.bias(layer.name)
            torch.testing.assert_close(subject.bias(layer.name), shift if bias is None else bias + shift)
    apply_(subject, database, solve(database, Target("sparsity", 0.0)), masks=False)
    images = small.batches()[0]
    torch.testing.assert_close(subject.run(images), dense.run(images))


def test_masks_are_attached_where_zeros_are(database):
    subject = small.subject()
    found = solve(database, Target("sparsity", 0.3), settings=StitchSettings(excluded={"stem": "first"}))
    apply_(subject, database, found)
    kept = masks(subject.model)
    assert kept.keys() == {layer.name for layer in found.layers if layer.level}
    for name, mask in kept.items():
        assert torch.equal(mask, database.load(name, found.choice[name]).mask)


def test_a_database_of_another_network_is_refused_and_nothing_is_changed(database):
    other = small.subject()
    other.model.classifier = torch.nn.Linear(18, 7)
    other = type(other)(other.model)
    before = other.digest()
    with pytest.raises(PosttrainingError, match="which is of another network"):
        apply_(other, database, solve(database, Target("sparsity", 0.5)))
    assert other.digest() == before


def test_settings_that_make_no_sense(database):
    half = Target("sparsity", 0.5)
    with pytest.raises(PosttrainingError, match="excluded: unknown layer of the database 'stam'"):
        solve(database, half, settings=StitchSettings(excluded={"stam": ""}))
    with pytest.raises(PosttrainingError, match="caps: unknown layer"):
        solve(database, half, settings=StitchSettings(caps={"stam": 0.5}))
    with pytest.raises(PosttrainingError, match="unknown kind of error 'outputs'"):
        solve(database, half, "outputs")
    with pytest.raises(PosttrainingError, match="need its measurements"):
        solve(database, half, "loss")
    with pytest.raises(PosttrainingError, match="whose loss was measured"):
        solve(database, half, "loss", StitchSettings(losses=Losses({})))
    with pytest.raises(PosttrainingError, match="need the census"):
        solve(database, half, "absolute")
    with pytest.raises(RecipeError, match="unknown solver"):
        solve(database, half, settings=StitchSettings(solver="magic"))
