"""Scores from single weights: hand examples, and where mean, sum and maximum rank differently."""

import pytest
import torch

from secateur.sparsity import BlockOf, ScoreInputs, Unstructured, criteria, make_mask, parse_pattern


def scores(name: str, weight: torch.Tensor) -> torch.Tensor:
    return criteria[name].weight_scores(ScoreInputs(weight))


def test_magnitude_and_l2():
    weight = torch.tensor([[-2.0, 0.5, 0.0]])
    assert scores("magnitude", weight).tolist() == [[2.0, 0.5, 0.0]]
    assert scores("l2", weight).tolist() == [[4.0, 0.25, 0.0]]
    assert criteria["l1"] is criteria["magnitude"]


def test_l1_and_l2_of_a_block_differ_where_they_should():
    # Block one: L1 2.2, L2 2.0; block two: L1 2.4, L2 1.7. L1 removes the first, L2 the second.
    weight = torch.tensor([[2.0, 1.2], [0.2, 1.2]])
    l1 = make_mask(scores("magnitude", weight), BlockOf(2), 0.5)
    l2 = make_mask(scores("l2", weight), BlockOf(2), 0.5)
    assert l1[0].tolist() == [False, True] and l2[0].tolist() == [True, False]


def test_l2_keeps_the_order_of_tiny_weights():
    weight = torch.tensor([[3e-30, 2e-30]])
    assert make_mask(scores("l2", weight), Unstructured(), 0.5).tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("name", "kept"),
    # sums 2.2, 2.4, 1.2 (short block of one filter); means 1.1, 1.2, 1.2; maxima 2, 1.2, 1.2; squares 4.04, 2.88, 1.44
    [("magnitude", [2]), ("l1_norm", [1, 0]), ("max", [0])],
)
def test_how_units_are_ranked(name, kept):
    weight = torch.tensor([[2.0, 1.2], [0.2, 1.2], [1.3, 1.3]])
    pattern, criterion = parse_pattern("block:2x1"), criteria[name]
    found = pattern.group_scores(scores(name, weight), 1, criterion.combine)
    order = [found.tolist(), found.argsort(descending=True)[: len(kept)].tolist()]
    assert order[1] == kept, order


def test_the_hand_values_of_every_combination():
    weight = torch.tensor([[3.0, -4.0], [1.0, 0.0]])
    pattern = parse_pattern("filter")
    found = {
        name: pattern.group_scores(scores(name, weight), 1, criteria[name].combine).tolist()
        for name in ("magnitude", "l1_norm", "l2", "l2_norm", "max")
    }
    assert found == {
        "magnitude": [3.5, 0.5],
        "l1_norm": [7.0, 1.0],
        "l2": [12.5, 0.5],
        "l2_norm": [25.0, 1.0],
        "max": [4.0, 1.0],
    }
