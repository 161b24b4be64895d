"""Bits, overrides and modes of Distiller's quantizers."""

import pytest

from secateur.errors import RecipeError
from secateur.recipe.document import parse_document
from secateur.recipe.importers.distiller.bits import bits_of, glob_of, mode_of, overrides_of
from secateur.recipe.importers.reading import Reading


def fields(text):
    return Reading(parse_document(text, "f.yaml")).fields()


@pytest.mark.parametrize(
    ("expression", "glob"),
    [
        ("conv1", "conv1"),
        ("module.fc", "fc"),
        ("layer1.*", "layer1*"),
        (r"layer1\..*", "layer1.*"),
        (r"^features\.\d+$", "features.[0-9]"),
        (".*relu.*", "*relu*"),
    ],
)
def test_regular_expressions_as_globs(expression, glob):
    assert glob_of(fields("a: 1\n"), expression, None) == glob


def test_names_are_those_of_our_networks_and_the_rest_is_refused():
    assert glob_of(fields("a: 1\n"), "model.4.3", "mobilenet") == "blocks.3.pointwise"
    with pytest.raises(RecipeError, match="more than a glob can say"):
        glob_of(fields("(conv|fc): 1\n"), "(conv|fc)", None)


def test_bits():
    found = fields("a: null\nb: 32\nc: 4\nd: 9\n")
    assert [bits_of(found, name, 8) for name in "abcx"] == [None, None, 4, 8]
    with pytest.raises(RecipeError, match=r"f.yaml:4: 'd' in the file is 2 to 8, or 32 for float, not 9"):
        bits_of(found, "d", 8)


def test_overrides_old_and_new():
    text = """\
overrides:
  conv1: {bits_weights: null, bits_activations: null}
  layer1.*: {bits_parameters: 4, clip_acts: AVG}
bits_overrides:
  fc: {wts: 6}
"""
    reading = Reading(parse_document(text, "f.yaml"))
    found = overrides_of(reading.fields(), None)
    assert [(o.glob, o.bits) for o in found] == [
        ("conv1", {"weights": None, "activations": None}),
        ("layer1*", {"weights": 4}),
        ("fc", {"weights": 6}),
    ]
    assert "f.yaml:3: 'clip_acts' is not imported" in "\n".join(map(str, reading.notes))
    with pytest.raises(RecipeError, match=r"f.yaml:2: unknown key 'bits_weigths'.* Did you mean 'bits_weights'"):
        overrides_of(fields("overrides:\n  conv1: {bits_weigths: 4}\n"), None)


def test_modes():
    assert mode_of(fields("mode: SYMMETRIC_RESTRICTED\n"), "SYMMETRIC") == ("sym", "sym")
    assert mode_of(fields("mode: {activations: ASYMMETRIC_SIGNED}\n"), "SYMMETRIC") == ("asym_s", "sym_full")
    with pytest.raises(RecipeError, match="Did you mean 'SYMMETRIC'"):
        mode_of(fields("mode: SYMETRIC\n"), "SYMMETRIC")
