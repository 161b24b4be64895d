"""Statistics of what was seen, against numpy over everything at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import QuantizationError
from secateur.quantization.histogram import BINS
from secateur.quantization.seen import Seen, Statistics


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.floats(-100, 100), st.floats(0.001, 1000))
def test_statistics_are_those_of_all_numbers(seed, pieces, mean, spread):
    draw = np.random.default_rng(seed)
    x = (draw.standard_normal((7, 3, 5)) * spread + mean).astype(np.float32)
    seen = Seen()
    for part in np.array_split(x, pieces):
        seen.add(part)
    facts, wide, rows = seen.statistics(), x.astype(np.float64), x.reshape(7, -1)
    assert (facts.min, facts.max) == (x.min(), x.max())
    assert facts.avg_min == pytest.approx(rows.min(axis=1).mean(dtype=np.float64), rel=1e-6)
    assert facts.avg_max == pytest.approx(rows.max(axis=1).mean(dtype=np.float64), rel=1e-6)
    assert facts.mean == pytest.approx(wide.mean(), rel=1e-6, abs=1e-6 * spread)
    assert facts.std == pytest.approx(wide.std(), rel=1e-4)
    width = seen.histogram.reach / (BINS // 2)
    assert facts.b == pytest.approx(np.abs(wide - wide.mean()).mean(), abs=width)
    assert seen.images == 7


def test_continued_batches_are_one():
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    whole, parts = Seen(), Seen()
    whole.add(x)
    parts.add(x[:1])
    parts.add(x[1:], continued=True)
    assert whole.extremes == parts.extremes == [(0.0, 11.0)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(QuantizationError, match="NaN or infinity"):
        Seen().add(np.array([[1.0, bad]]))


def test_nothing_seen():
    with pytest.raises(QuantizationError, match="nothing"):
        Seen().statistics()
    seen = Seen()
    seen.add(np.zeros((2, 0)))
    with pytest.raises(QuantizationError, match="nothing"):
        seen.statistics()


def test_saved_statistics_stand_for_images():
    facts = Statistics(-1, 2, -0.5, 1.5, 0.1, 0.7, 0.6)
    seen = Seen(facts)
    assert seen.statistics() == facts and not seen.has_histogram
    with pytest.raises(QuantizationError, match="cannot be added"):
        seen.add(np.zeros((1, 1)))


def test_constant_numbers_have_no_spread():
    seen = Seen()
    seen.add(np.full((3, 100), 1e4, np.float32))
    assert seen.statistics().std == pytest.approx(0, abs=1e-2)
