"""Targets: what makes no sense is a sentence."""

import math

import pytest

from secateur.errors import PosttrainingError
from secateur.posttraining.target import Target


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("mac", 1), "unknown kind of cost 'mac'"),
        (("sparsity", 1.5), "a fraction from 0 to 1"),
        (("macs", 1.5, True), "a fraction from 0 to 1"),
        (("macs", -1), "a number of at least 0"),
        (("seconds", math.nan), "a number of at least 0"),
        (("sparsity", 0.5, True), "a share already"),
        (("sparsity", 0.5, False, "conv"), "unknown base 'conv'"),
    ],
)
def test_targets_that_make_no_sense(arguments, sentence):
    with pytest.raises(PosttrainingError, match=sentence):
        Target(*arguments)
