"""Schemes fill in what a recipe leaves open, and nothing else."""

import inspect
import re

import pytest

from secateur.errors import RecipeError
from secateur.quantization.training.activations import activation_rules
from secateur.quantization.training.schemes import schemes
from secateur.quantization.training.weights import weight_rules
from secateur.recipe.schema.quantization_training import QuantizationTraining


def test_every_scheme_has_its_rules_and_its_line_in_the_recipe():
    described = inspect.getdoc(QuantizationTraining)
    for name, scheme in schemes.items():
        assert re.search(rf"^{name} ", described, re.MULTILINE)
        assert scheme.weights in weight_rules and scheme.activations in activation_rules
        assert scheme.behind_relu is None or scheme.behind_relu in activation_rules


def test_filling():
    filled = schemes["tensorflow"].filled(QuantizationTraining(scheme="tensorflow", per_channel=True))
    assert (filled.per_channel, filled.weight_mode, filled.decay) == (True, "asym_s", 0.999)
    assert schemes["affine"].filled(QuantizationTraining()).per_channel


def test_unknown():
    with pytest.raises(RecipeError, match="Did you mean 'dorefa'"):
        schemes["dorrefa"]
