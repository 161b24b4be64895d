import json

import pytest

from secateur.errors import WeightsError
from secateur.zoo import metadata_of, model
from secateur.zoo.metadata import MODEL_KEY, PREPROCESSING_KEY, parse_metadata
from secateur.zoo.preprocessing import IMAGENET_MEAN, IMAGENET_STD


@pytest.mark.parametrize(
    ("text", "mean", "std"),
    [
        ("ImageNet mean/std on 0..1", IMAGENET_MEAN, IMAGENET_STD),
        ("x/127.5-1", (0.5,) * 3, (0.5,) * 3),
        ("mean .5 std .5 on 0..1", (0.5,) * 3, (0.5,) * 3),
        (
            "mean .4914 .4822 .4465 std .2023 .1994 .2010 on 0..1",
            (0.4914, 0.4822, 0.4465),
            (0.2023, 0.1994, 0.2010),
        ),
    ],
)
def test_the_text_forms_of_input(text: str, mean: tuple, std: tuple) -> None:
    assert parse_metadata({"input": text}, "f").preprocessing == {"mean": mean, "std": std}


def test_scale_minus_one_to_one_is_mean_and_std_one_half() -> None:
    found = parse_metadata({"input": "x/127.5-1"}, "f").preprocessing
    for pixel in (0, 17, 255):
        assert (pixel / 255 - found["mean"][0]) / found["std"][0] == pytest.approx(pixel / 127.5 - 1)


def test_options_beside_and_inside_the_text() -> None:
    keys = {
        "input": "x/127.5-1",
        "activation": "relu6",
        "padding": "TensorFlow SAME",
        "bn_eps": "1e-3",
    }
    assert parse_metadata(keys, "f").options == {
        "activation": "relu6",
        "padding": "tensorflow",
        "bn_eps": 1e-3,
    }
    inside = parse_metadata({"input": "ImageNet mean/std on 0..1; LeakyReLU 0.1"}, "f")
    assert inside.options == {"activation": "leaky_relu"} and inside.preprocessing["mean"] == IMAGENET_MEAN


def test_text_that_is_not_understood_is_kept_not_guessed() -> None:
    found = parse_metadata({"input": "0..255 minus mean"}, "f")
    assert found.not_understood == "0..255 minus mean" and not found.preprocessing


def test_our_own_form_round_trips() -> None:
    module = model("mobilenet_v1_025_imagenet", padding="torch", mean=0.4, classes=7)
    found = parse_metadata(json.loads(json.dumps(metadata_of(module))), "f")
    assert found.model == "mobilenet_v1_025_imagenet"
    assert found.options == {"classes": 7, "padding": "torch", "activation": "relu6", "bn_eps": 1e-3}
    assert found.preprocessing == module.preprocessing.to_dict()
    nested = {"secateur": json.dumps({"version": 1, "metadata": metadata_of(module), "tensors": {}})}
    assert parse_metadata(nested, "f") == found


@pytest.mark.parametrize(
    "damaged",
    [
        {"bn_eps": "small"},
        {"activation": "swish?"},
        {PREPROCESSING_KEY: "{"},
        {PREPROCESSING_KEY: "[1]"},
        {PREPROCESSING_KEY: '{"std": [0, 0, 0]}'},
        {PREPROCESSING_KEY: '{"crop_pct": {}}'},
        {MODEL_KEY: "nul"},
        {"secateur": "12"},
    ],
)
def test_damaged_metadata_is_a_sentence_that_names_the_file(damaged: dict[str, str]) -> None:
    with pytest.raises(WeightsError, match=r"^some\.file: .*\.$"):
        parse_metadata(damaged, "some.file")
