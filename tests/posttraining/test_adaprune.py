"""AdaPrune: rounds, the sum of unit errors, and that the zeros are those of the last round."""

import copy

import pytest
import torch

from secateur.errors import PosttrainingError
from secateur.posttraining import adaprune
from secateur.posttraining.adaprune import AdaPruneOptions, adaprune_
from secateur.posttraining.descent import FitOptions
from secateur.posttraining.progressive import uniform
from secateur.sparsity import masks
from unit_networks import BATCHES, Residual, Twice, Untraceable, built, gap

FIT = FitOptions(15, 0.05, stop_below=0.0)


@pytest.mark.parametrize("make", [Residual, Twice, Untraceable])
def test_rounds_end_at_the_sparsity_and_nearer_to_the_dense_network(make):
    dense = built(make)
    network, plain = copy.deepcopy(dense), copy.deepcopy(dense)
    rounds = adaprune_(network, dense, lambda: BATCHES, 0.64, AdaPruneOptions(2, "layer", FIT))
    assert [found.sparsity for found in rounds] == pytest.approx([0.4, 0.64])
    assert all(found.after < found.before and found.steps == 15 for found in rounds)
    wanted = {layer.name: layer.zeros for layer in uniform(network, 0.64).layers}
    assert {name: int((~mask).sum()) for name, mask in masks(network).items()} == wanted
    adaprune_(plain, dense, lambda: BATCHES, 0.64, AdaPruneOptions(1, "layer", FitOptions(0)))
    assert gap(network, dense) < gap(plain, dense)


def test_error_is_the_sum_of_relative_ones():
    dense = built(Residual)
    network = copy.deepcopy(dense)
    with torch.no_grad():
        network.classifier.weight.mul_(0.5)
        network.classifier.bias.mul_(0.5)
    found = adaprune_(network, dense, lambda: BATCHES, 0.0, AdaPruneOptions(1, "layer", FitOptions(0)))
    # Half of the logits is missing, a quarter of their square in every batch; everything before is as it was.
    assert found[0].before == pytest.approx(0.25, rel=1e-5)


def test_goes_on_where_it_was(tmp_path, monkeypatch):
    dense = built(Residual)
    options = AdaPruneOptions(3, "block", FIT)
    whole = copy.deepcopy(dense)
    rounds = adaprune_(whole, dense, lambda: BATCHES, 0.6, options, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.setattr(adaprune, "descend_", None)  # nothing is fitted again
    network = copy.deepcopy(dense)
    assert adaprune_(network, dense, lambda: BATCHES, 0.6, options, folder=tmp_path) == rounds
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in network.state_dict().items())


def test_time_box():
    dense = built(Residual)
    network = copy.deepcopy(dense)
    options = AdaPruneOptions(3, "block", FitOptions(10**9, 0.05, stop_below=0.0))
    rounds = adaprune_(network, dense, lambda: BATCHES, 0.6, options, seconds=2.0)
    assert sum(found.seconds for found in rounds) < 15
    assert rounds[-1].sparsity == pytest.approx(0.6)


def test_refused():
    dense = built(Residual)
    with pytest.raises(PosttrainingError, match="fraction"):
        adaprune_(copy.deepcopy(dense), dense, lambda: BATCHES, 1.0)
    with pytest.raises(PosttrainingError, match="there are none"):
        adaprune_(copy.deepcopy(dense), dense, list, 0.5)
    with pytest.raises(PosttrainingError, match="rounds"):
        AdaPruneOptions(0)
