"""What all sections have in common: YAML's truth is not taken for a number."""

import pytest

from secateur.errors import RecipeError
from secateur.recipe import parse_recipe

RECIPE = """
model: {{name: any}}
stages:
  - stage: train
    training: {{{line}}}
"""


def training(line: str):
    return parse_recipe(RECIPE.format(line=line)).stages[0].training


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("epochs: yes", "epochs is a number, not true"),
        ("learning_rate: off", "learning_rate is a number, not false"),
        ("clip_gradient_norm: on", "clip_gradient_norm is a number, not true"),
    ],
)
def test_truth_is_no_number(line, says):
    with pytest.raises(RecipeError, match=says):
        training(line)


def test_where_truth_is_asked_for_it_is_taken():
    assert training("augment: yes").augment is True
    assert training("augment: off, epochs: 1").epochs == 1
