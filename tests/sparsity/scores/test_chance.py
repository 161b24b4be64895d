"""Random scores are even, exact and repeatable."""

import pytest
import torch

from secateur.sparsity import ScoreInputs, Unstructured, criteria, make_mask, parse_pattern


def draw(weight: torch.Tensor, seed: int) -> torch.Tensor:
    return criteria["random"].weight_scores(ScoreInputs(weight, generator=torch.Generator().manual_seed(seed)))


def test_random_is_repeatable_and_ignores_the_weights():
    one = draw(torch.zeros(5, 5), 3)
    assert torch.equal(one, draw(torch.ones(5, 5), 3))
    assert not torch.equal(one, draw(torch.ones(5, 5), 4))


def test_random_reaches_every_weight_equally():
    removed = torch.zeros(20)
    for seed in range(2000):
        removed += ~make_mask(draw(torch.zeros(20), seed), Unstructured(), 0.3)
    assert removed.sum() == 2000 * 6
    # Binomial(2000, .3): five standard deviations are 102.
    assert float((removed - 600).abs().max()) < 102


@pytest.mark.parametrize("spec", ["1x4", "1x4-fine", "kernel", "filter", "2:4"])
def test_random_units_are_whole_and_their_number_exact(spec):
    pattern, weight = parse_pattern(spec), torch.zeros(8, 8, 3, 3)
    found = [make_mask(draw(weight, seed), pattern, 0.5) for seed in range(2)]
    assert not torch.equal(*found)
    assert [int((~mask).sum()) for mask in found] == [8 * 8 * 9 // 2] * 2
