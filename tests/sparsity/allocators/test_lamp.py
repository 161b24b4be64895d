"""LAMP against its definition, weight by weight."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.sparsity import AllocationOptions, allocate
from secateur.sparsity.allocators.lamp import lamp_scores


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=30))
def test_scores_are_the_share_of_the_energy_that_is_not_smaller(values):
    weight = torch.tensor(values, dtype=torch.float64)
    squares = [value * value for value in values]
    expected = [
        square / sum(other for other in squares if other >= square) if any(squares) else 0.0 for square in squares
    ]
    assert lamp_scores(weight).tolist() == pytest.approx(expected, abs=1e-12)


def test_by_hand():
    assert lamp_scores(torch.tensor([3.0, -1.0, 2.0])).tolist() == pytest.approx([1.0, 1 / 14, 4 / 13])


def test_the_largest_weight_of_every_layer_stays(made_up):
    facts = made_up({"small": 1e-6 * torch.arange(1, 5.0)[None], "large": torch.arange(1, 101.0)[None]})
    found = allocate(facts.layers, 0.98, "lamp", facts=facts, options=AllocationOptions(cap=1.0))
    assert found.levels["small"] == 0.75 and found.levels["large"] == pytest.approx(0.98)
    plain = allocate(facts.layers, 0.5, "global_magnitude", facts=facts, options=AllocationOptions(cap=1.0))
    assert plain.levels["small"] == 1.0
