"""ProbMask: the published schedule and projection, and what training with it leaves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.recipe import ProbMask
from secateur.training.methods.probmask import projected, rate_at, score_rate, sharpness_at

PLAIN = ProbMask.model_validate({})


@pytest.mark.parametrize(
    ("step", "rate"), [(10, 0), (20, 0), (35, 0.520312), (50, 0.7875), (65, 0.885938), (80, 0.9), (99, 0.9)]
)
def test_the_published_rates(step, rate):
    """ALGORITHMS L3: T 100, t_w 20, t_f 80, p .9."""
    assert rate_at(PLAIN, step, 100, 0.9) == pytest.approx(rate, abs=1e-6)


def test_the_rate_begins_at_its_first_level():
    config = ProbMask.model_validate({"initial": 0.3, "start": 0.0})
    assert rate_at(config, 0, 100, 0.9) == pytest.approx(0.3)


@pytest.mark.parametrize(("step", "tau"), [(0, 1.0), (50, 1.941748), (90, 7.874016), (100, 33.333333)])
def test_the_published_sharpness(step, tau):
    assert sharpness_at(PLAIN, step, 100) == pytest.approx(tau, abs=1e-6)


def test_the_published_projection():
    """ALGORITHMS L3: keep 2 of 5."""
    scores = [torch.tensor([0.9, 0.8]), torch.tensor([0.5, 0.3, 0.2])]
    sizes = [torch.ones(2), torch.ones(3)]
    found = torch.cat(projected(scores, sizes, 2.0))
    torch.testing.assert_close(found, torch.tensor([0.76, 0.66, 0.36, 0.16, 0.06]), atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.floats(0.01, 0.99))
def test_projected_scores_are_probabilities_that_keep_no_more_than_asked(seed, share):
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.rand(7, generator=generator) * 1.2 - 0.1 for _ in range(3)]
    sizes = [torch.full((7,), size) for size in (1.0, 4.0, 9.0)]
    keep = share * 98
    found = projected(scores, sizes, keep)
    kept = sum(float((score.double() * size).sum()) for score, size in zip(found, sizes, strict=True))
    assert all((score >= 0).all() and (score <= 1).all() for score in found)
    before = sum(float((score.double().clamp(0, 1) * size).sum()) for score, size in zip(scores, sizes, strict=True))
    assert kept == pytest.approx(min(before, keep), abs=1e-4)


@pytest.mark.parametrize(("steps", "rate"), [(20, 1.0), (135, 40 / 135), (540, 40 / 540), (500_000, 6e-3)])
def test_scores_learn_faster_in_short_runs_and_as_published_in_long_ones(steps, rate):
    assert score_rate(PLAIN, steps) == pytest.approx(rate)
    assert score_rate(ProbMask(score_learning_rate=0.02), steps) == 0.02
