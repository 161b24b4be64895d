"""Steps of weights with least squared error: against a search of each filter alone, and never worse than extremes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_networks import INT4, images, network, table_of, weight_of
from secateur.quantization.numbers import Numbers, rounded, scale_of_range, scale_of_tensor
from secateur.quantization.weight_steps import FACTORS, fit_weight_steps, least_error_scale


def lost(weight, scale):
    return float(np.square(rounded(weight, scale) - weight.astype(np.float64)).sum())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([2, 3, 4, 8]), st.sampled_from([None, 0, 1]), st.booleans())
def test_never_worse_than_extremes(seed, bits, axis, symmetric):
    weight = np.random.default_rng(seed).standard_t(3, (4, 6, 3)).astype(np.float32)
    numbers = Numbers(bits, signed=True, symmetric=symmetric)
    extremes = scale_of_tensor(weight, numbers, axis)
    found = least_error_scale(weight, extremes)
    assert (found.axis, found.numbers, found.step.shape) == (axis, numbers, extremes.step.shape)
    assert lost(weight, found) <= lost(weight, extremes) * (1 + 1e-9)


def test_each_filter_has_the_best_factor_of_its_own():
    weight = np.random.default_rng(0).standard_t(2, (3, 200)).astype(np.float32)
    found = least_error_scale(weight, scale_of_tensor(weight, INT4, 0))
    for row, step in zip(weight, found.step, strict=True):
        tried = [scale_of_range(row.min() * factor, row.max() * factor, INT4) for factor in FACTORS]
        best = min(tried, key=lambda scale: lost(row, scale))
        assert float(step) == pytest.approx(float(best.step))
        assert float(step) < float(tried[0].step)


def test_a_filter_of_zeros_and_a_table():
    model = network(zeros=0.3)
    table = table_of(model, images(), INT4)
    found = fit_weight_steps(model, table)
    assert found.values == table.values
    for name, scale in found.weights.items():
        weight = weight_of(model, name)
        assert lost(weight, scale) <= lost(weight, table.weights[name]) * (1 + 1e-9)
        assert not rounded(weight, scale)[weight == 0].any()
    empty = np.zeros((2, 3), np.float32)
    assert least_error_scale(empty, scale_of_tensor(empty, INT4, 0)).step.tolist() == [1.0, 1.0]
