"""A registry is a dict whose missing names explain themselves."""

import pytest

from secateur.errors import RecipeError
from secateur.registry import Registry


def test_unknown_name_tells_the_nearest_and_lists_the_known():
    shapes = Registry("shape")
    shapes.register("circle", "disc")(object())
    with pytest.raises(RecipeError, match=r"unknown shape 'circel'\. Did you mean 'circle'\? Known: circle, disc\."):
        shapes["circel"]


def test_a_name_is_registered_once():
    shapes = Registry("shape")
    shapes.register("circle")(1)
    with pytest.raises(ValueError, match="registered twice"):
        shapes.register("circle")(2)
