"""LASSO selection against the closed form of orthogonal terms, its optimality conditions, and the other solver."""

import numpy as np
import pytest

from secateur.channels.lasso import _ista, _lars, lasso_scores


def problem(channels=12, samples=200, seed=0):
    rng = np.random.default_rng(seed)
    terms = rng.normal(size=(samples, channels)) * rng.uniform(0.5, 2, channels)
    target = terms @ rng.normal(size=channels) + rng.normal(size=samples)
    return terms.T @ terms, terms.T @ target


@pytest.mark.parametrize("solver", ["lars", "ista"])
def test_orthogonal_terms_stay_in_the_order_of_their_correlation(solver):
    # With G = I the solution is soft(m, penalty): the k largest |m| stay.
    moment = np.array([3.0, -5.0, 0.5, 4.0, -1.0, 0.0])
    for count, expected in ((1, {1}), (2, {1, 3}), (3, {0, 1, 3}), (4, {0, 1, 3, 4})):
        scores = lasso_scores(np.eye(6), moment, count, solver)
        assert set(np.argsort(-scores, kind="stable")[:count].tolist()) == expected
        # The entries of the solution, and no others, lie above the rest.
        assert (scores >= 1).sum() == count


@pytest.mark.parametrize("make", [_lars, _ista])
@pytest.mark.parametrize("penalty", [0.03, 0.2, 0.6])
def test_solutions_meet_the_conditions_of_optimality(make, penalty):
    gram, moment = problem()
    most = np.abs(moment).max()
    gram, moment = gram / most, moment / most
    found = make(gram, moment)(penalty)
    left = moment - gram @ found
    on = found != 0
    assert 0 < on.sum() < len(found) or penalty < 0.1
    np.testing.assert_allclose(left[on], penalty * np.sign(found[on]), atol=1e-5)
    assert (np.abs(left[~on]) <= penalty + 1e-5).all()


@pytest.mark.parametrize("count", [1, 4, 7, 11, 12])
def test_both_solvers_choose_the_same_channels(count):
    gram, moment = problem(seed=3)
    chosen = [set(np.argsort(-lasso_scores(gram, moment, count, s))[:count].tolist()) for s in ("lars", "ista")]
    assert chosen[0] == chosen[1]


def test_of_two_hundred_channels_two_more_or_less_will_do_and_the_rest_is_filled_in_order():
    gram, moment = problem(200, 2000, seed=5)
    scores = lasso_scores(gram, moment, 100)
    assert abs(int((scores >= 1).sum()) - 100) <= 2
    assert len(np.unique(scores)) == 200 and scores.min() >= 0


def test_a_channel_that_says_nothing_never_comes_before_one_that_does():
    gram, moment = problem(6)
    gram[2, :] = gram[:, 2] = moment[2] = 0
    for solver in ("lars", "ista"):
        scores = lasso_scores(gram, moment, 5, solver)
        assert scores.argmin() == 2 and scores[2] == 0


def test_a_target_of_zero_leaves_the_order_of_the_channels():
    assert lasso_scores(np.eye(3), np.zeros(3), 2).tolist() == [0, 0, 0]


def test_equal_terms_do_not_stop_the_solvers():
    term = np.random.default_rng(0).normal(size=(50, 1))
    terms = np.hstack([term, term, term + 1, 2 * term])
    gram, moment = terms.T @ terms, terms.T @ term[:, 0]
    for solver in ("lars", "ista"):
        scores = lasso_scores(gram, moment, 1, solver)
        assert np.isfinite(scores).all()
        # The term of twice the size needs half the coefficient.
        assert scores.argmax() == 3
