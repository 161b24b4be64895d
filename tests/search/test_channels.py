"""E10's formulas on a chain of convolutions, where every one of them can be written down."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.search import ChannelDecision, ChannelProblem, Work

# Convolutions a (3 -> 16), b (16 -> 32), c (32 -> 64), d (64 -> 10); groups are what b, c and d read.
MACS = {"a": 3 * 16 * 9 * 64, "b": 16 * 32 * 9 * 64, "c": 32 * 64 * 9 * 16, "d": 64 * 10}
TOTAL = sum(MACS.values())


def chain(keep=0.5, reward="accuracy", step=1):
    groups = (
        ChannelDecision("a", 16, 32, 16, 8, 8, 1, MACS["b"], step),
        ChannelDecision("b", 32, 64, 32, 8, 8, 2, MACS["c"], step),
        ChannelDecision("c", 64, 10, 64, 1, 1, 1, MACS["d"], step),
    )
    work = (
        Work(MACS["a"], ({"a": 1.0},)),
        Work(MACS["b"], ({"b": 1.0}, {"a": 1.0})),
        Work(MACS["c"], ({"c": 1.0}, {"b": 1.0})),
        Work(MACS["d"], ({"c": 1.0},)),
    )
    return ChannelProblem(groups, work, keep, reward)


@pytest.mark.parametrize(
    ("keep", "low"), [(0.2, 0.118772), (0.3, 0.170915), (0.4, 0.219192), (0.5, 0.264137), (0.6, 0.306180)]
)
def test_lower_bound(keep, low):
    assert chain(keep, "flops").low == pytest.approx(low, abs=1e-6)


def low_of(group):
    return -(-round(chain().low * group * 1e9) // 10**9) / group  # whole channels, rounded up


def test_state():
    state = chain().state((0.5,))
    a, b, c = 0.5, low_of(32), low_of(64)
    left = MACS["a"] * a + MACS["b"] * a * b + MACS["c"] * b * c + MACS["d"] * c
    expected = [1 / 2, 1, 32 / 64, 1, 1, 1, left / TOTAL, MACS["c"] / max(MACS.values())]
    np.testing.assert_allclose(state, expected, rtol=1e-6)
    assert not chain().state((1, 1, 1)).any()


def test_the_budget_cuts_actions():
    problem = chain()
    a, c = 1.0, low_of(64)
    others = MACS["a"] * a + MACS["d"] * c
    this = MACS["b"] * a + MACS["c"] * c  # with all inputs of c kept: the producer b, its inputs kept, and c itself
    cut = (0.5 * TOTAL - others) / this
    assert problem.largest((a,)) == pytest.approx(cut, rel=1e-12)
    assert 0 < cut < 1
    assert problem.share((a,), 1.0) == int(cut * 32) / 32
    assert chain(reward="flops").share((a,), 1.0) == 1.0


def test_a_group_on_both_axes_is_a_quadratic():
    groups = (ChannelDecision("g", 64, 64, 64, 8, 8, 1, 1000),)
    problem = ChannelProblem(groups, (Work(1000, ({"g": 1.0}, {"g": 1.0})), Work(200, ({"g": 1.0},))), 0.5)
    assert 1000 * (share := problem.largest(())) ** 2 + 200 * share == pytest.approx(600)


def test_an_axis_of_two_groups():
    work = Work(900, ({"a": 1 / 3, "b": 2 / 3},))
    assert work.left({"a": 0.5}) == pytest.approx(750)
    assert work.left({"a": 0.5, "b": 0.25}) == pytest.approx(300)


def test_rewards():
    shares = (0.5, 0.5, 1.0)
    left = MACS["a"] * 0.5 + MACS["b"] * 0.25 + MACS["c"] * 0.5 + MACS["d"]
    assert chain().reward(shares, 0.9) == 0.9
    assert chain(reward="flops").reward(shares, 0.9) == pytest.approx(-0.15 * log(2 * left))
    assert chain(reward="flops").reward(shares, 0.6) == pytest.approx(-0.4 * log(2 * left))


def test_the_learner_remembers_whole_channels():
    problem = chain()
    share = problem.share((), 0.61)
    assert share == 9 / 16
    assert problem.stored(0.61, share) == share


@given(st.sampled_from([0.3, 0.5, 0.7]), st.lists(st.floats(0, 1), min_size=3, max_size=3), st.sampled_from([1, 4]))
def test_any_actions_stay_within_the_budget(keep, actions, step):
    problem = chain(keep, step=step)
    shares = []
    for action in actions:
        shares.append(problem.share(shares, max(action, problem.low)))
    assert problem.macs(shares) <= keep * TOTAL * (1 + 1e-9)
    assert all(
        share >= problem.low and (share * size) % step == 0 for share, size in zip(shares, (16, 32, 64), strict=True)
    )


def test_refusals():
    with pytest.raises(SparsityError, match="cannot be kept"):
        chain(0.2, step=16)
    with pytest.raises(SparsityError, match="no group"):
        ChannelProblem((), (), 0.5)
