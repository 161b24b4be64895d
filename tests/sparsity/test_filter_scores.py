"""Scores of whole filters follow from the criterion's scores of their weights."""

import pytest
import torch
from torch import nn

from secateur.errors import SparsityError
from secateur.sparsity import Scoring
from secateur.sparsity.filter_scores import FilterScores


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 1), nn.Flatten(), nn.Linear(6, 2))


def test_magnitude_is_the_mean_of_a_filter(network):
    scores = FilterScores(network, Scoring("magnitude"))
    assert list(scores) == ["0", "2", "4"]
    assert torch.allclose(scores["2"], network[2].weight.double().abs().flatten(1).mean(1))
    assert scores["4"].shape == (2,)


def test_criteria_of_filters_come_back_exactly(network):
    filters = network[0].weight.detach().double().flatten(1)
    distances = torch.cdist(filters, filters).mean(1)
    assert torch.allclose(FilterScores(network, Scoring("fpgm"))["0"], distances)


def test_random_scores_depend_on_seed_and_layer_only(network):
    first, second = (FilterScores(network, Scoring("random"), seed=3)["0"] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, FilterScores(network, Scoring("random"), seed=4)["0"])


def test_missing_statistics_are_a_sentence(network):
    with pytest.raises(SparsityError, match="looks at gradients"):
        FilterScores(network, Scoring("taylor"))
