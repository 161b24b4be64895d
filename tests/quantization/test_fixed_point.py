"""Multipliers as integers and shifts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from float_networks import batches, residual, run
from secateur.errors import QuantizationError
from secateur.quantization.calibrate import calibrate
from secateur.quantization.fixed_point import fixed_point, multipliers, with_fixed_point
from secateur.quantization.points import points_of
from secateur.quantization.prepare import prepared
from secateur.quantization.qdq import write_qdq


@given(st.floats(1e-30, 1e30), st.integers(1, 31))
def test_the_error_is_below_half_of_the_last_bit(factor, bits):
    m, k = fixed_point(factor, bits)
    assert 2 ** (bits - 1) <= m <= 2**bits - 1 or bits == 1
    assert abs(np.ldexp(float(m), -int(k)) - factor) <= factor * 2.0**-bits * (2 if bits == 1 else 1)


def test_known_factors():
    m, k = fixed_point([0.5, 1.0, 0.75, 3.0], 8)
    assert m.tolist() == [128, 128, 192, 192]
    assert k.tolist() == [8, 7, 8, 6]


def test_rounding_up_to_a_power_of_two():
    m, k = fixed_point(1 - 2.0**-20, 8)
    assert (int(m), int(k)) == (128, 7)


@pytest.mark.parametrize(("factor", "bits"), [(0.0, 8), (-1.0, 8), (np.nan, 8), (np.inf, 8), (1.0, 0), (1.0, 32)])
def test_impossible_multipliers(factor, bits):
    with pytest.raises(QuantizationError):
        fixed_point(factor, bits)


@pytest.mark.parametrize("bits", [6, 15])
def test_tables_with_such_multipliers(bits):
    plain = prepared(residual())
    table = calibrate(plain, batches(), points_of(plain))
    moved = with_fixed_point(plain, table, bits)
    for layer, source, weight, result in (("conv1", "x", "w1", "r1"), ("conv2", "r1", "w2", "c2")):
        m, k = multipliers(plain, moved, bits)[layer]
        ratio = np.float64(moved.values[source].step) / np.float64(moved.values[result].step)
        np.testing.assert_allclose(
            moved.weights[weight].step * ratio, np.ldexp(np.array(m, float), -np.array(k)), rtol=1e-6
        )
        np.testing.assert_allclose(moved.weights[weight].step, table.weights[weight].step, rtol=2.0**-bits)
    # The classifier gives floats: it has no multiplier.
    assert moved.weights["w3"] == table.weights["w3"]
    expected = run(plain)[0]
    assert np.abs(run(write_qdq(plain, moved))[0] - expected).max() < 0.1 * np.abs(expected).max()
