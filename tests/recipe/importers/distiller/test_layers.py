"""Names and regular expressions of Distiller as layers of ours."""

import pytest
import torch

import secateur
import secateur.sparsity
from secateur.errors import RecipeError
from secateur.recipe.document import parse_document
from secateur.recipe.importers.distiller.layers import glob_of, layer_named, layers_fitting, layers_in
from secateur.recipe.importers.reading import Reading


def fields(model=None):
    return Reading(parse_document("a: 1\n", "f.yaml"), model).fields()


@pytest.mark.parametrize(
    "model",
    [
        *("resnet18", "resnet50", "resnet20_cifar10", "resnet56b_cifar10", "mobilenet_v1_050_imagenet"),
        *("vgg11", "vgg16_bn", "alexnet", "wide_resnet50_2"),
    ],
)
def test_names_are_those_of_the_networks(model):
    with torch.device("meta"):
        network = secateur.model(model)
    assert layers_in(model) == tuple(layer.name for layer in secateur.sparsity.layers_of(network))


@pytest.mark.parametrize("model", ["resnet19", "resnet21_cifar10", "densenet121", "mine.py:network"])
def test_other_networks_are_not_known(model):
    assert layers_in(model) is None


@pytest.mark.parametrize(
    ("expression", "glob"),
    [
        ("conv1", "conv1"),
        ("module.fc", "fc"),
        (r"layer1\.0\.conv1", "layer1.0.conv1"),
        ("layer1.*", "layer1*"),
        (r"layer1\..*", "layer1.*"),
        (r"^features\.\d$", "features.[0-9]"),
        (".*relu.*", "*relu*"),
        ("layer[12].+", "layer[12]?*"),
        ("conv.", "conv?"),
        *((expression, None) for expression in (r"features.\d+.conv.*", "conv*", "conv?", "a|b", "(conv|fc)", "[^a]")),
    ],
)
def test_globs_say_the_same_or_there_are_none(expression, glob):
    assert glob_of(fields(), expression, None) == glob


def test_expressions_fit_whole_names_of_layers():
    resnet = fields("resnet18")
    assert layers_fitting(resnet, r"layer[34]\.0\.conv\d+", None) == tuple(
        f"layer{group}.0.conv{number}" for group in (3, 4) for number in (1, 2)
    )
    assert layers_fitting(resnet, "conv1?|fc", None) == ("conv1", "fc")
    assert layers_fitting(resnet, "conv*", None) == ()  # con, conv, convv, ...
    assert layers_fitting(fields(), ".*", None) is None


def test_expressions_see_the_names_of_distiller():
    mobilenet = fields("mobilenet_v1_100_imagenet")
    assert layers_fitting(mobilenet, r"model\.4\..*", "mobilenet") == ("blocks.3.depthwise", "blocks.3.pointwise")
    assert layers_fitting(mobilenet, r"fc|model\.0\.0", "mobilenet") == ("stem.conv", "classifier")
    assert glob_of(mobilenet, "model.4.3", "mobilenet") == "blocks.3.pointwise"
    assert glob_of(mobilenet, "model.4.*", "mobilenet") is None


@pytest.mark.parametrize(
    ("expression", "words"),
    [("(conv", "is no regular expression"), ("(a+)+b", "too involved"), ("a*" * 7, "too involved")],
)
def test_expressions_that_cannot_be_compared(expression, words):
    with pytest.raises(RecipeError, match=words):
        layers_fitting(fields("resnet18"), expression, None)


def test_names_of_parameters_are_exact():
    assert layer_named(fields("resnet18"), "module.layer1.0.conv1.weight", None) == "layer1.0.conv1"
    assert layer_named(fields(), "anything.weight", None) == "anything"
    with pytest.raises(RecipeError, match="is no name of a parameter: there are no patterns; name each one"):
        layer_named(fields(), "layer1.*.weight", None)
    with pytest.raises(RecipeError, match=r"unknown layer 'layer1.0.conv3'. Did you mean 'layer1.0.conv[12]'?"):
        layer_named(fields("resnet18"), "layer1.0.conv3.weight", None)
