import pytest

import tiny_networks
from secateur.errors import RecipeError, SparsityError
from secateur.pipeline.posttraining.preview import check_posttraining, preview
from secateur.recipe import PosttrainingStage
from secateur.sparsity import layers_of


@pytest.fixture
def layers():
    return layers_of(tiny_networks.Tiny())


def stage(**keys):
    return PosttrainingStage.model_validate(keys)


def test_what_can_be_done_is_let_through(layers):
    check_posttraining(layers, stage(sparsity=0.5))
    check_posttraining(layers, stage(patterns=["unstructured", "1x4"], remaining={"macs": 0.5}))
    check_posttraining(layers, stage(patterns=["unstructured"], tuning={"masks": "scheduled"}))


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ({"sparsity": 0.99, "cap": 0.5}, SparsityError, "99 % zeros are asked for, but at most"),
        ({"sparsity": 0.7, "patterns": ["2:4"]}, SparsityError, "70 % zeros are asked for, but at most"),
        ({"layers": ["nothing"]}, SparsityError, "unknown layer or glob 'nothing'"),
        ({"patterns": ["1x5x"]}, SparsityError, "unknown pattern '1x5x'"),
        ({"patterns": ["unstructured", "1x4"], "allocation": "uniform"}, RecipeError, "knows one pattern"),
        ({"patterns": ["unstructured", "1x4"], "tuning": {"masks": "learned"}}, RecipeError, "masks: static"),
        ({"rearrange": True}, RecipeError, "rearrange for 1xN patterns"),
        (
            {"method": "magnitude", "reconstruction": {}, "criterion": "taylor", "patterns": ["filter"]},
            RecipeError,
            "more than the weights",
        ),
        ({"method": "magnitude", "reconstruction": {}, "criterion": "nuclear"}, SparsityError, "whole filters"),
        ({"method": "magnitude", "reconstruction": {}, "patterns": ["1x4", "2:4"]}, RecipeError, "knows one pattern"),
        ({"allocation": "listed", "levels_file": "nowhere"}, SparsityError, "nowhere"),
        ({"exclude_kinds": ["conv", "linear", "depthwise"]}, SparsityError, "no layer can have the pattern"),
    ],
)
def test_what_cannot_is_refused_in_a_sentence(layers, keys, error, words):
    with pytest.raises(error, match=words):
        check_posttraining(layers, stage(**keys))


def test_the_preview_names_every_layer(layers):
    shown = preview(layers, stage(sparsity=0.5))
    assert all(layer.name in shown for layer in layers)
    assert "first convolution" in shown


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"criterion": "l1"}, "criterion is for masks by a score"),
        ({"correct_weights": "msb"}, "correct_weights is for masks by a score"),
        ({"ties": "threshold"}, "ties is for masks"),
        ({"levels_file": "tables"}, "go together"),
        ({"allocation": "listed"}, "go together"),
        ({"method": "magnitude", "sparsity": 0.5, "reconstruction": {"table": [0.1, 0.6]}}, "two targets"),
        ({"method": "magnitude", "correct_weights": "msb", "reconstruction": {"rounds": 2}}, "rounds fit the weights"),
    ],
)
def test_keys_that_contradict_each_other(keys, words):
    with pytest.raises(ValueError, match=words):
        stage(**keys)


def test_the_preview_shows_the_protocol(layers):
    config = {"unit": "layer", "steps": 20000, "learning_rate": 1e-5, "table": [0.1, 0.6], "mask": "every_step"}
    shown = preview(layers, stage(method="magnitude", reconstruction=config))
    assert "target sparsity 0.6" in shown or "60 %" in shown
    assert "each layer by 20,000 steps, rate 1e-05, level by level 10 60 %, sparse inputs, masks every_step" in shown
