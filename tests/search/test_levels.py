"""E9's formulas, with the published constants of PocketFlow's action map and bound."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.search import LevelDecision, LevelProblem

SIZES = (432, 2304, 9216, 36864, 640)
SHAPES = ((16, 3, 3, 3), (16, 16, 3, 3), (32, 32, 3, 3), (64, 64, 3, 3), (10, 64))


def problem(target=0.75, reward="single", bound=1.0, counted=None):
    layers = tuple(
        LevelDecision(f"l{place}", shape, n, bound) for place, (shape, n) in enumerate(zip(SHAPES, SIZES, strict=True))
    )
    return LevelProblem(layers, target, reward, counted)


@pytest.mark.parametrize(("action", "level"), [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.833333), (1, 0.916667)])
def test_map_of_actions(action, level):
    assert problem(reward="multi").share((), action) == pytest.approx(level, abs=1e-6)
    assert problem().share((), action) == pytest.approx(level, abs=1e-6)  # the first layer is not bounded yet


@pytest.mark.parametrize("action", [0.0, 0.3, 0.5])
def test_the_lower_bound_is_raised_so_that_the_target_stays_within_reach(action):
    assert problem().share((0.25, 0.25, 0.25), action) == pytest.approx(0.909216, abs=1e-6)
    assert problem(reward="multi").share((0.25, 0.25, 0.25), action) <= 0.75


def test_state():
    shares = (0.5, 0.25)
    state = problem().state(shares)
    total = sum(SIZES)
    expected = [0, 0, 1, 0, 0, 32 / 64, 32 / 64, 1, 1, 9216 / 36864]
    expected += [(432 * 0.5 + 2304 * 0.75) / (total - 432), (36864 + 640) / (total - 432)]
    assert state.dtype == np.float32
    np.testing.assert_allclose(state, expected, rtol=1e-6)
    last = problem().state((0, 0, 0, 0))
    np.testing.assert_allclose(last[5:9], [10 / 64, 1, 1 / 3, 1 / 3])  # a linear layer is padded with ones
    assert last[-1] == 0 and not problem().state((0,) * 5).any()


def test_rewards():
    shares = (0.0, 0.5, 0.5, 0.75, 0.25)
    ratio = sum(n * share for n, share in zip(SIZES, shares, strict=True)) / sum(SIZES)
    assert problem().reward(shares, 0.9) == 0.9
    assert problem(reward="multi").reward(shares, 0.9) == pytest.approx(0.9 * log(1 + ratio))
    counted = 2 * sum(SIZES)
    assert problem(reward="multi", counted=counted).reward(shares, 0.9) == pytest.approx(0.9 * log(1 + ratio / 2))


@given(
    st.floats(0, 0.95),
    st.lists(st.floats(0, 1), min_size=5, max_size=5),
    st.sampled_from(["single", "multi"]),
    st.sampled_from([0.98, 0.99, 1.0]),
)
def test_levels_stay_in_their_bounds_and_single_meets_the_target(target, actions, reward, bound):
    searched = problem(target, reward, bound)
    shares = []
    for action in actions:
        shares.append(searched.share(shares, action))
    assert all(0 <= share <= bound for share in shares)
    if reward == "single":
        assert sum(n * share for n, share in zip(SIZES, shares, strict=True)) >= target * sum(SIZES) - 1e-6


def test_refusals():
    with pytest.raises(SparsityError, match=r"allow 0\.6"):
        problem(0.75, bound=0.6)
    with pytest.raises(SparsityError, match="no layer"):
        LevelProblem((), 0.5)
    with pytest.raises(SparsityError, match="below 1, not 1"):
        problem(1.0)
