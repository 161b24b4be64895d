"""The quantize stage: a key that would do nothing is refused, in whichever way the network is quantized."""

import pytest
from pydantic import ValidationError

from secateur.recipe import QuantizeStage
from secateur.recipe.schema.quantization import CHOICES

# A value of every key that is not its default.
OTHER = {
    "bits": 4,
    "layer_bits": {"conv1": 4},
    "mixed": {"budget": 5},
    "activation_bits": 4,
    "activations": "signed",
    "weights": "tensor",
    "reduce_range": True,
    "ranges": "bn",
    "observer": "entropy",
    "observer_options": {"bins": 64},
    "equalize": True,
    "rounding": "columns",
    "guard": 0.5,
    "float_layers": ("first",),
}
WAYS = {
    "qat": {"method": "qat"},
    "half": {"numbers": "fp16"},
    "dynamic": {"compute": "dynamic"},
    "float": {"compute": "float"},
    "baseline": {"ranges": "random"},
}
READ = {
    "qat": set(),
    "half": {"float_layers"},
    "dynamic": {"bits", "weights", "reduce_range", "float_layers"},
    "float": {"bits", "weights", "reduce_range", "float_layers", "layer_bits"},
    "baseline": {"bits", "weights", "reduce_range", "float_layers", "activation_bits", "activations", "ranges"},
}


def test_every_key_has_another_value_here():
    assert OTHER.keys() == set(CHOICES)


@pytest.mark.parametrize("key", CHOICES)
@pytest.mark.parametrize("way", WAYS)
def test_keys_that_a_way_does_not_read_are_refused(way, key):
    if key in READ[way]:
        assert getattr(QuantizeStage(**WAYS[way] | {key: OTHER[key]}), key) == OTHER[key]
    else:
        with pytest.raises(ValidationError, match=f"'{key}' would do nothing: "):
            QuantizeStage(**WAYS[way] | {key: OTHER[key]})


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"learned": {"steps": 5}}, "'learned' would do nothing"),
        ({"training": {"epochs": 2}}, "'training' would do nothing"),
        ({"mixed": {}, "bits": 4}, "'bits' would do nothing: mixed gives"),
        ({"mixed": {}, "layer_bits": {"a": 4}}, "write one of them"),
        ({"method": "qat", "numbers": "bf16"}, "write numbers: int8"),
        ({"method": "qat", "compute": "float"}, "leave compute out"),
        ({"numbers": "bf16", "compute": "dynamic"}, "leave compute: dynamic out"),
    ],
)
def test_keys_that_contradict_each_other(keys, words):
    with pytest.raises(ValidationError, match=words):
        QuantizeStage(**keys)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_saved_can_be_read_again(way):
    stage = QuantizeStage(**WAYS[way])
    assert QuantizeStage(**stage.model_dump(mode="json")) == stage
