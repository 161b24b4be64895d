"""Merged sequences: the cheapest next removal of all goes, and no sequence is overtaken by itself."""

import torch

from secateur.posttraining.exact import Removals
from secateur.posttraining.ranking import Ranking
from secateur.posttraining.sets import sets_of
from secateur.sparsity import parse_pattern


def test_the_order_of_each_row_is_respected():
    pattern, shape = parse_pattern("unstructured"), (2, 3)
    # Row 0 loses 2 (cost 5), then 0 (cost 1), then 1 (9); row 1 loses 0 (2), 1 (6), 2 (7).
    removals = Removals(
        torch.tensor([[[2, 0, 1], [0, 1, 2]]]), torch.tensor([[[5.0, 1.0, 9.0], [2.0, 6.0, 7.0]]]).double()
    )
    ranking = Ranking(removals, sets_of(pattern, shape, 1), pattern, shape)
    expected = [(1, 0), (0, 2), (0, 0), (1, 1), (1, 2), (0, 1)]
    for count in range(7):
        gone = {tuple(place) for place in (~ranking.mask(count / 6, "floor")).nonzero().tolist()}
        assert gone == set(expected[:count])


def test_short_blocks_are_judged_by_their_weights():
    pattern, shape = parse_pattern("1x4"), (5, 1)
    removals = Removals(torch.zeros((1, 2, 1), dtype=torch.long), torch.tensor([[[2.0], [1.0]]]).double())
    mask = Ranking(removals, sets_of(pattern, shape, 1), pattern, shape).mask(0.5, "floor")
    assert mask.flatten().tolist() == [False] * 4 + [True]


def test_n_m_groups_that_cost_least_go_first():
    pattern, shape = parse_pattern("2:4"), (1, 8)
    removals = Removals(torch.tensor([[[0, 5, 1, 6]]]), torch.tensor([[[1.0, 2.0, 3.0, 1.0]]]).double())
    ranking = Ranking(removals, sets_of(pattern, shape, 1), pattern, shape)
    assert (~ranking.mask(0.25, "floor")).nonzero()[:, 1].tolist() == [5, 6]
    assert (~ranking.mask(0.5, "floor")).nonzero()[:, 1].tolist() == [0, 1, 5, 6]
