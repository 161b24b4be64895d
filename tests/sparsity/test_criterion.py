"""What a criterion is: registration, what it needs, which patterns it goes with."""

import pytest
import torch

from secateur.errors import RecipeError, SparsityError
from secateur.sparsity import ScoreInputs, criteria, parse_pattern, score_rule


def test_unknown_criterion_names_the_nearest():
    with pytest.raises(RecipeError, match="Did you mean 'magnitude'"):
        criteria["magnitute"]


def test_a_new_criterion_is_one_function():
    try:

        @score_rule("backwards")
        def backwards(inputs: ScoreInputs):
            return -inputs.weight.abs()

        assert criteria["backwards"].weight_scores(ScoreInputs(torch.tensor([[1.0, -2.0]]))).tolist() == [[-1, -2]]
    finally:
        del criteria["backwards"]


def test_scores_of_filters_are_spread_over_their_weights():
    weight = torch.arange(24.0).reshape(2, 3, 2, 2)
    scores = criteria["fpgm"].weight_scores(ScoreInputs(weight))
    assert scores.shape == weight.shape
    assert all(len(part.unique()) == 1 for part in scores)


def test_criteria_of_filters_go_with_filters_only():
    assert criteria["fpgm"].applies(parse_pattern("filter/8")) is None
    assert criteria["fpgm"].applies(parse_pattern("column")) is None
    assert "scores whole filters" in (criteria["fpgm"].applies(parse_pattern("1x4")) or "")
    assert criteria["magnitude"].applies(parse_pattern("1x4")) is None


@pytest.mark.parametrize("name", sorted(criteria))
def test_every_criterion_says_what_is_missing_or_gives_finite_scores(name):
    criterion = criteria[name]
    inputs = ScoreInputs(torch.randn(4, 3, 2, 2))
    if criterion.needs:
        with pytest.raises(SparsityError, match=r"gather_statistics|no batch norm follows"):
            criterion.weight_scores(inputs)
    else:
        assert torch.isfinite(criterion.weight_scores(inputs)).all()
