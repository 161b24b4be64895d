"""Weights rounded to bf16, in pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bf16 import SPECIAL, as_bf16, halves
from secateur.engine.weights.pairs import bf16_bits, weight_pairs


@given(st.lists(st.floats(width=32), min_size=1, max_size=9))
def test_bits_are_those_of_ml_dtypes(numbers):
    values = np.array([*numbers, *SPECIAL], np.float32)
    ours = (bf16_bits(values).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(ours, as_bf16(values))


def test_zeros_have_no_sign_so_that_they_are_left_out():
    assert not bf16_bits(np.array([0.0, -0.0, 1e-40, -1e-40], np.float32)).any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (2, 5, 3, 1), (4, 6, 1, 2), (2, 0)])
def test_pairs_are_neighbouring_channels(shape):
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    words = weight_pairs(weight)
    assert words.shape == (shape[0], -(-shape[1] // 2), *shape[2:])
    both = np.moveaxis(halves(words), -1, 2).reshape(shape[0], -1, *shape[2:])
    np.testing.assert_array_equal(both[:, : shape[1]], as_bf16(weight))
    assert not both[:, shape[1] :].any(), "a missing channel is zero"
