"""What single layers cost the network: measured by hand, interpolated, kept."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import small_database as small
from secateur.errors import PosttrainingError
from secateur.posttraining import losses as module
from secateur.posttraining.losses import Divergence, Losses, measure_losses
from secateur.posttraining.stitch import StitchSettings, solve
from secateur.posttraining.target import Target


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return small.database(tmp_path_factory.mktemp("db"), centered=True)


def test_divergence_is_that_of_the_definition(database):
    subject, dense = small.subject(), small.subject()
    divergence = Divergence(subject, small.batches)
    assert divergence() == 0.0
    own = database.load("body", 3)
    subject.store_("body", own.weight, database.bias("body") + own.shift)
    images = torch.cat(small.batches())
    p, q = (torch.softmax(of.run(images).double(), 1) for of in (dense, subject))
    by_hand = (p * (p / q).log()).sum(1).mean()
    assert divergence() == pytest.approx(float(by_hand), rel=1e-6)


def test_every_layer_is_measured_alone_and_put_back(database):
    subject = small.subject()
    images = small.batches()[0]
    before = subject.run(images)
    found = measure_losses(subject, database, small.batches, densities=(0.5, 0.1))
    assert torch.equal(subject.run(images), before)
    assert found.curves.keys() == database.layers.keys()
    for name, curve in found.curves.items():
        assert curve[0] == (0.0, 0.0) and curve == tuple(sorted(curve))
        assert [value for _, value in curve] == sorted(value for _, value in curve)
        assert curve[-1][0] == max(row.error for row in database.options(name))
    divergence = Divergence(subject, small.batches)
    own = database.load("stem", 2)
    subject.store_("stem", own.weight, own.shift)
    assert found.of("stem", [own.error])[0] == pytest.approx(divergence(), rel=1e-9)


def test_measurements_are_kept(database, tmp_path, monkeypatch):
    first = measure_losses(small.subject(), database, small.batches, folder=tmp_path)
    monkeypatch.setattr(Divergence, "__call__", lambda self: 1 / 0)
    assert measure_losses(small.subject(), database, small.batches, folder=tmp_path) == first
    with pytest.raises(ZeroDivisionError):
        measure_losses(small.subject(), database, lambda: small.batches()[:1], folder=tmp_path)
    with pytest.raises(ZeroDivisionError):
        measure_losses(small.subject(1), database, small.batches, folder=tmp_path)


def test_a_stopped_measurement_leaves_the_network_as_it_was(database, tmp_path, monkeypatch):
    subject = small.subject()
    images = small.batches()[0]
    before = subject.run(images)
    monkeypatch.setattr(Divergence, "__call__", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measure_losses(subject, database, small.batches, folder=tmp_path)
    assert torch.equal(subject.run(images), before)


def test_choices_follow_the_loss(database):
    """A layer whose errors cost the network nothing is pruned before all others."""
    flat = dict.fromkeys(database.layers, ((0.0, 0.0), (10.0, 1.0))) | {"point": ((0.0, 0.0), (10.0, 0.0))}
    settings = StitchSettings(errors="loss", losses=Losses(flat))
    share = 0.5 * database.layers["point"].layer.weights / sum(o.layer.weights for o in database.layers.values())
    found = solve(database, Target("sparsity", share), settings=settings)
    assert found.levels["point"] >= 0.5 and found.error == 0.0
    assert all(level == 0.0 for name, level in found.levels.items() if name != "point")


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 5)), min_size=1, max_size=6), st.floats(0, 3), st.floats(0, 3))
def test_curves_never_fall_whatever_the_noise(points, one, other):
    curve = module._rising([(0.0, 0.0), *points])
    low, high = Losses({"a": curve}).of("a", sorted((one, other)))
    assert 0.0 <= low <= high <= max(value for _, value in points)


def test_points_are_met_and_joined_by_lines():
    losses = Losses({"a": ((0.0, 0.0), (0.1, 1.0), (0.3, 2.0))})
    assert losses.of("a", [0.0, 0.05, 0.1, 0.2, 0.3, 9.0]) == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.0])
    assert losses.of("b", [0.0]) == [0.0]
    with pytest.raises(PosttrainingError, match="unknown layer whose loss was measured 'b'"):
        losses.of("b", [0.0, 1.0])


def test_without_images_nothing_is_measured(database):
    with pytest.raises(PosttrainingError, match="at least one image"):
        measure_losses(small.subject(), database, list)
