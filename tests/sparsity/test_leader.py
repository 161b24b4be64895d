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


def test_other_levels_than_the_leaders_are_refused():
    # The leader decides for all: what the plan says of the others would not come true.
    plan = plan_sparsity(
        network(), 0.4, "filter", base="selected", only=("0", "1"), include_first=True, levels={"1": 0.75}
    )
    with pytest.raises(SparsityError, match=r"0: is planned at level 0\.4, but its leader 1 decides for it at 0\.75"):
        Sparsifier(network(), plan, leader="1")


@pytest.mark.parametrize("pattern", ["2:4", "2:4-2d"])
def test_patterns_without_groups_to_follow_are_refused(pattern):
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    plan = plan_sparsity(model, None, pattern, base="selected", include_first=True, include_classifier=True)
    with pytest.raises(SparsityError, match="no layer can lead"):
        Sparsifier(model, plan, leader="0")


@pytest.mark.parametrize(("leader", "words"), [("3", "6"), ("9", "cannot lead")])
def test_a_leader_that_does_not_fit_is_a_sentence(leader, words):
    model = network()
    with pytest.raises(SparsityError, match=words):
        Sparsifier(model, planned(model, ("0", "1", "3")), leader=leader)
