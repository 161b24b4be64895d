"""Layers that follow a leader lose the groups that it loses."""

import pytest
import torch
from torch import nn

from secateur.errors import SparsityError
from secateur.sparsity import Sparsifier, masks, plan_sparsity


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 6, 1))


def planned(model, layers, pattern="filter", level=0.5):
    return plan_sparsity(model, level, pattern, base="selected", only=layers, include_first=True)


@pytest.mark.parametrize("pattern", ["filter", "filter/4"])
def test_all_layers_lose_the_filters_of_the_leader(pattern):
    model = network()
    plan = planned(model, ("1", "0", "2"), pattern)
    Sparsifier(model, plan, leader="1").choose_(0)
    kept = {name: mask.flatten(1).any(1).tolist() for name, mask in masks(model).items()}
    assert sum(kept["1"]) == 4
    assert kept["0"] == kept["1"] == kept["2"]
    scores = model[1].parametrizations.weight.original.abs().sum((1, 2, 3))
    assert set(torch.topk(scores, 4).indices.tolist()) == {i for i, k in enumerate(kept["1"]) if k}


def test_without_a_leader_each_layer_chooses_for_itself():
    model = network()
    Sparsifier(model, planned(model, ("0", "1", "2"))).choose_(0)
    kept = {name: mask.flatten(1).any(1).tolist() for name, mask in masks(model).items()}
    assert kept["0"] != kept["1"] or kept["1"] != kept["2"]


@pytest.mark.parametrize(("leader", "words"), [("3", "6"), ("9", "cannot lead")])
def test_a_leader_that_does_not_fit_is_a_sentence(leader, words):
    model = network()
    with pytest.raises(SparsityError, match=words):
        Sparsifier(model, planned(model, ("0", "1", "3")), leader=leader)
