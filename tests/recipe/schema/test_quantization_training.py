"""The section of training with rounding: what it refuses, and what it says."""

import pytest

from secateur.errors import RecipeError
from secateur.recipe import build_recipe
from secateur.recipe.schema import QuantizeStage


def stage(**keys):
    value = {"model": {"name": "resnet18"}, "stages": [{"stage": "quantize", "method": "qat", "qat": keys}]}
    (found,) = build_recipe(value).stages
    assert isinstance(found, QuantizeStage)
    return found.qat


def test_defaults_and_overrides():
    qat = stage()
    assert (qat.scheme, qat.weight_bits, qat.activation_bits, qat.freeze_bn_delay) == ("affine", 8, 8, None)
    qat = stage(scheme="lsq", weight_bits=4, overrides={"conv1": {"weights": 8}, "fc": {"activations": None}})
    assert qat.overrides["conv1"].model_fields_set == {"weights"} and qat.overrides["fc"].activations is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"scheme": "lsq", "weight_bits": 1}, "one bit is for the weights of dorefa and pact alone"),
        ({"overrides": {"fc": {"weights": 1}}}, "one bit is for the weights of dorefa and pact alone"),
        ({"scheme": "dorefa", "overrides": {"fc": {"activations": 1}}}, "everything else has 2 to 8"),
        ({"weight_bits": 9}, "'weight_bits'"),
        ({"sheme": "lsq"}, "Did you mean 'scheme'?"),
        ({"overrides": {"fc": {"weight": 4}}}, "Did you mean 'weights'?"),
        ({"decay": 1.0}, "'decay'"),
    ],
)
def test_faults_are_sentences(keys, words):
    with pytest.raises(RecipeError) as caught:
        stage(**keys)
    assert words in str(caught.value)


def test_one_bit_of_dorefa():
    assert stage(scheme="dorefa", weight_bits=1).weight_bits == 1
