"""Rounds: every pair meets once in a sweep, nobody twice in a round."""

from itertools import combinations

import numpy as np
import pytest

from secateur.sparsity.permutation.rounds import rounds_of_pairs


@pytest.mark.parametrize("stripes", [2, 3, 4, 7, 10])
def test_every_pair_meets_once(stripes):
    rounds = list(rounds_of_pairs(stripes, np.random.default_rng(0)))
    met = [tuple(sorted(pair)) for pairs in rounds for pair in pairs.tolist()]
    assert sorted(met) == list(combinations(range(stripes), 2))
    assert all(len(set(pairs.ravel().tolist())) == pairs.size for pairs in rounds)
