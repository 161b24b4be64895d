"""Scores: what each criterion measures, and that random is even, exact and repeatable."""

import pytest
import torch

from secateur.errors import RecipeError
from secateur.sparsity import BlockOf, Unstructured, criteria, make_mask


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_magnitude_and_l2():
    weight = torch.tensor([-2.0, 0.5, 0.0])
    assert criteria["magnitude"](weight, generator()).tolist() == [2.0, 0.5, 0.0]
    assert criteria["l2"](weight, generator()).tolist() == [4.0, 0.25, 0.0]


def test_l1_and_l2_of_a_block_differ_where_they_should():
    # Block one: L1 2.2, L2 2.0; block two: L1 2.4, L2 1.7. L1 removes the first, L2 the second.
    weight = torch.tensor([[2.0, 1.2], [0.2, 1.2]])
    l1 = make_mask(criteria["magnitude"](weight, generator()), BlockOf(2), 0.5)
    l2 = make_mask(criteria["l2"](weight, generator()), BlockOf(2), 0.5)
    assert l1[0].tolist() == [False, True] and l2[0].tolist() == [True, False]


def test_l2_keeps_the_order_of_tiny_weights():
    weight = torch.tensor([[3e-30, 2e-30]])
    assert make_mask(criteria["l2"](weight, generator()), Unstructured(), 0.5).tolist() == [[True, False]]


def test_random_is_repeatable_and_ignores_the_weights():
    one = criteria["random"](torch.zeros(5, 5), generator(3))
    assert torch.equal(one, criteria["random"](torch.ones(5, 5), generator(3)))
    assert not torch.equal(one, criteria["random"](torch.ones(5, 5), generator(4)))


def test_random_reaches_every_weight_equally():
    removed = torch.zeros(20)
    for seed in range(2000):
        removed += ~make_mask(criteria["random"](torch.zeros(20), generator(seed)), Unstructured(), 0.3)
    assert removed.sum() == 2000 * 6
    # Binomial(2000, .3): five standard deviations are 102.
    assert float((removed - 600).abs().max()) < 102


def test_unknown_criterion_names_the_nearest():
    with pytest.raises(RecipeError, match="Did you mean 'magnitude'"):
        criteria["magnitute"]
