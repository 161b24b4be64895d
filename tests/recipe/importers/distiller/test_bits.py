"""Bits, overrides and modes of Distiller's quantizers."""

import pytest

from secateur.errors import RecipeError
from secateur.recipe.document import parse_document
from secateur.recipe.importers.distiller.bits import bits_of, mode_of, overrides_of
from secateur.recipe.importers.reading import Reading


def fields(text):
    return Reading(parse_document(text, "f.yaml")).fields()


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
    assert [(*o.names, o.bits) for o in found] == [
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


def test_more_overrides_than_any_network_has_layers_are_refused():
    many = "overrides:\n" + "".join(f"  a{number}: {{bits_weights: 4}}\n" for number in range(1001))
    with pytest.raises(RecipeError, match=r"f.yaml:1: 'overrides' of the file has 1001 entries; at most 1000\."):
        overrides_of(fields(many), None)
