"""Closed forms of the numbers that bytes stand for."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.graph.ir import Activation
from secateur.graph.quantized.grid import Grid, bounds, centred, is_linear, to_floats, to_integers

GRID = Grid(0.5, 3, "uint8")
SIGNED = Grid(0.25, -5, "int8")


def test_ties_go_to_the_even_integer():
    x = np.array([0.25, 0.75, 1.25, -0.25, -0.75], np.float32)
    assert to_integers(x, GRID).tolist() == [3, 5, 5, 3, 1]


def test_what_lies_outside_is_clamped():
    x = np.array([1e9, -1e9, np.inf, -np.inf, 3e38], np.float32)
    assert to_integers(x, GRID).tolist() == [255, 0, 255, 0, 255]
    assert to_integers(x, SIGNED).tolist() == [127, -128, 127, -128, 127]


def test_zero_is_exact():
    for grid in (GRID, SIGNED):
        assert to_integers(np.zeros(1, np.float32), grid)[0] == grid.zero
        assert to_floats(np.array([grid.zero], grid.dtype), grid)[0] == 0


@given(st.floats(2**-20, 1024, width=32), st.integers(0, 255), st.sampled_from(["uint8", "int8"]), st.integers(0, 255))
def test_every_number_of_a_grid_comes_back(scale: float, zero: int, dtype: str, byte: int):
    grid = Grid(scale, zero if dtype == "uint8" else zero - 128, dtype)
    q = np.array([byte], np.uint8).view(dtype)
    assert to_integers(to_floats(q, grid), grid) == q


def test_the_difference_to_the_zero_point_does_not_overflow():
    assert centred(np.array([-128, 127], np.int8), 127).tolist() == [-255, 0]


@pytest.mark.parametrize(
    ("activation", "grid", "wanted"),
    [
        (None, GRID, (0, 255)),
        (Activation("relu"), GRID, (3, 255)),
        (Activation("relu"), SIGNED, (-5, 127)),
        (Activation("clip", 0.0, 6.0), GRID, (3, 15)),
        (Activation("clip", -1.0, 1.0), SIGNED, (-9, -1)),
        (Activation("clip", -math.inf, 1e30), SIGNED, (-128, 127)),
        (Activation("clip", 0.25, 0.75), GRID, (3, 5)),
    ],
)
def test_bounds(activation: Activation | None, grid: Grid, wanted: tuple[int, int]):
    assert is_linear(activation)
    assert bounds(activation, grid) == wanted


def test_other_activations_do_more_than_bound():
    assert not is_linear(Activation("hard_swish"))
    assert not is_linear(Activation("leaky_relu", 0.1))
