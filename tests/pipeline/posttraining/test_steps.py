"""Steps after the closed form are kept where they help, and not done twice."""

import copy

import pytest
import torch

import small_database
from secateur.pipeline.posttraining.gradients import norms_
from secateur.pipeline.posttraining.steps import Steps
from secateur.posttraining.losses import Divergence
from secateur.posttraining.subject_torch import TorchSubject
from secateur.sparsity import sparsify_


def steps(folder):
    network = small_database.subject().model
    dense = copy.deepcopy(network)
    distance = Divergence(TorchSubject(network), small_database.batches)
    sparsify_(network, 0.5, "unstructured", base="selected")
    found = Steps(network, dense, distance, folder)
    found.begin("closed form")
    return found


def same(network, state):
    return all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_what_brings_the_network_nearer_stays(tmp_path):
    own = steps(tmp_path)
    with torch.no_grad():
        own.network.classifier.bias += 3.0 * torch.arange(4.0)
    own.rows.clear()
    own.begin("spoilt")
    own.attempt("repair", lambda: own.network.classifier.bias.data.copy_(own.dense.classifier.bias), ["a"])
    assert [row["kept"] for row in own.rows] == [True, True]
    assert own.rows[1]["distance"] < own.rows[0]["distance"]
    assert torch.equal(own.network.classifier.bias, own.dense.classifier.bias)


@pytest.mark.parametrize("value", [50.0, float("nan")])
def test_what_does_not_help_is_taken_back(tmp_path, value):
    own = steps(tmp_path)
    state = copy.deepcopy(own.network.state_dict())
    before = own.rows[0]["distance"]
    own.attempt("spoil", lambda: own.network.classifier.weight.data.mul_(-value), ["a"])
    assert same(own.network, state)
    assert own.rows[1]["kept"] is False and own.rows[1]["distance"] == before == own.distance()
    assert own.rows[1]["tried"] > before


def test_a_step_that_is_done_is_not_done_again(tmp_path):
    calls = []

    def change(network):
        def act():
            calls.append(1)
            network.classifier.bias.data.mul_(1.5)

        return act

    first = steps(tmp_path)
    first.attempt("step", change(first.network), ["a"])
    second = steps(tmp_path)
    second.attempt("step", change(second.network), ["a"])
    assert len(calls) == 1 and first.rows == second.rows
    assert same(second.network, first.network.state_dict())
    third = steps(tmp_path)
    third.attempt("step", change(third.network), ["b"])
    assert len(calls) == 2


def test_statistics_of_norms(tmp_path):
    own = steps(tmp_path)
    norms_(own, small_database.batches)
    row = own.rows[1]
    nearer = row["fall"] > row["error"] and row["sharp_fall"] >= -row["sharp_error"]
    assert row["step"] == "norm statistics" and row["kept"] is nearer


@pytest.mark.parametrize(("shift", "kept"), [(0.0, False), (0.2, True)])
def test_what_chance_would_have_is_not_kept(tmp_path, monkeypatch, shift, kept):
    """As many images come nearer as go away, or a few more of them do."""
    own = steps(tmp_path)
    noise = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    looks = iter([torch.full_like(noise, 5.0), 5.0 + noise - noise.mean() - shift])

    def each(*temperatures):
        soft = next(looks)
        return [soft, soft]

    monkeypatch.setattr(own.distance, "each", each)
    own.begin("closed form")
    own.attempt("step", lambda: None, ["a"])
    assert own.rows[-1]["kept"] is kept and own.rows[-1]["error"] == pytest.approx(0.07, abs=0.01)
