"""The knapsack over options: published values, brute force, and the budget that is never exceeded."""

import itertools
import math
import time
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import PosttrainingError, RecipeError
from secateur.posttraining import dynamic
from secateur.posttraining.dynamic import Choice, Option, choose, greedy, lagrangian, solvers

PUBLISHED = [
    [Option(0, 10), Option(1, 6), Option(4, 3)],
    [Option(0, 8), Option(0.5, 5), Option(3, 2)],
    [Option(0, 4), Option(2, 2), Option(5, 1)],
]


@pytest.mark.parametrize(
    ("budget", "error", "indices"),
    [(16, 1.5, (1, 1, 0)), (13, 3.5, (1, 1, 1)), (10, 6.0, (1, 2, 1)), (6, 12.0, (2, 2, 2))],
)
def test_published_values(budget, error, indices):
    """ALGORITHMS L8."""
    found = choose(PUBLISHED, budget)
    assert (found.indices, found.error) == (indices, error)
    assert found.cost == sum(own[index].cost for own, index in zip(PUBLISHED, indices, strict=True)) <= budget


def test_everything_dense_where_the_budget_allows_it():
    for name in solvers:
        assert solvers[name](PUBLISHED, 22) == Choice((0, 0, 0), 0.0, 22.0)
        assert solvers[name](PUBLISHED, math.inf).indices == (0, 0, 0)


def brute_force(options, budget):
    sums = [
        math.fsum(option.error for option in choice)
        for choice in itertools.product(*options)
        if math.fsum(option.cost for option in choice) <= budget
    ]
    return min(sums)


layers_of_whole_costs = st.lists(
    st.lists(st.builds(Option, st.integers(0, 50).map(float), st.integers(0, 40).map(float)), min_size=1, max_size=5),
    min_size=1,
    max_size=4,
)
eighths = st.integers(0, 400).map(lambda number: number / 8)  # sums of them are exact
layers_of_eighths = st.lists(
    st.lists(st.builds(Option, eighths, eighths), min_size=1, max_size=5), min_size=1, max_size=4
)
figures = st.floats(0, 1e3, allow_nan=False, allow_subnormal=False)
layers_of_any_costs = st.lists(
    st.lists(st.builds(Option, figures, figures), min_size=1, max_size=5), min_size=1, max_size=4
)


def least_of(options):
    return math.fsum(min(option.cost for option in own) for own in options)


@given(layers_of_whole_costs, st.integers(0, 120))
def test_whole_costs_are_solved_exactly(options, extra):
    budget = least_of(options) + extra
    found = choose(options, budget)
    assert found.error == brute_force(options, budget)
    assert found.cost <= budget


@settings(max_examples=60)
@given(layers_of_any_costs, st.floats(0, 1), st.sampled_from([50, 1000]))
def test_any_costs_are_as_good_as_a_budget_without_the_rounding(options, share, buckets):
    least, most = least_of(options), math.fsum(max(option.cost for option in own) for own in options)
    budget = max(least + share * (most - least), least)
    with mock.patch.object(dynamic, "_FRONT", 0):
        found = choose(options, budget, buckets)
    assert found.cost <= budget
    assert found.error >= brute_force(options, budget) * (1 - 1e-12)
    # Rounding up costs at most one bucket a layer.
    without = max(budget - (len(options) + 1) * (budget - least) / buckets, least)
    assert found.error <= brute_force(options, without) * (1 + 1e-12) + 1e-9


@given(layers_of_eighths, st.data())
def test_broken_costs_of_few_layers_are_solved_exactly(options, data):
    # A budget that some choice meets to the last bit.
    budget = math.fsum(data.draw(st.sampled_from(own)).cost for own in options)
    found = choose(options, budget)
    assert found.error == brute_force(options, budget)
    assert found.cost <= budget


@given(layers_of_any_costs, st.floats(0, 1), st.sampled_from(sorted(solvers)))
def test_no_solver_exceeds_the_budget(options, share, name):
    least = least_of(options)
    budget = max(least, least + share * 1000)
    found = solvers[name](options, budget)
    assert found.cost <= budget
    chosen = [own[index] for own, index in zip(options, found.indices, strict=True)]
    assert found.cost == math.fsum(option.cost for option in chosen)
    assert found.error == math.fsum(option.error for option in chosen)


@given(layers_of_whole_costs, st.integers(0, 100), st.sampled_from(["greedy", "lagrangian"]))
def test_dynamic_programming_is_never_worse(options, extra, name):
    budget = least_of(options) + extra
    assert choose(options, budget).error <= solvers[name](options, budget).error


@given(layers_of_whole_costs, st.integers(0, 60), st.integers(0, 60))
def test_a_larger_budget_is_never_worse(options, extra, more):
    budget = least_of(options) + extra
    assert choose(options, budget + more).error <= choose(options, budget).error


def convex(rng, layers=60, options=60):
    """Curves as a database has them: error over density falls and bends upwards."""
    found = []
    for _ in range(layers):
        size = rng.integers(100, 1_000_000)
        densities = 0.93 ** np.arange(options)
        found.append([Option(float((1 - d) ** 3 * rng.random()), float(int(size * d))) for d in densities])
    return found


def test_sixty_layers_of_sixty_options_take_no_time():
    options = convex(np.random.default_rng(0))
    dense = sum(own[0].cost for own in options)
    choose(options, 0.9 * dense)
    started = time.process_time()
    found = choose(options, 0.3 * dense)
    assert time.process_time() - started < 2
    assert 0.297 * dense < found.cost <= 0.3 * dense
    for other in (greedy(options, 0.3 * dense), lagrangian(options, 0.3 * dense)):
        assert found.error <= other.error * (1 + 1e-3), "rounded by a ten-thousandth of the budget"
        assert other.error <= 1.1 * found.error, "on bent curves all of them are near"


def test_equal_options_go_by_their_order():
    options = [[Option(1, 1), Option(1, 1)], [Option(0, 2), Option(0, 2), Option(5, 0)]]
    for name in solvers:
        assert solvers[name](options, 3).indices == (0, 0)


def test_no_layers():
    assert choose([], 0) == Choice((), 0.0, 0.0)


def test_what_cannot_be_solved_is_said():
    with pytest.raises(PosttrainingError, match=r"budget of 5 is out of reach: .* cost 6 together"):
        choose(PUBLISHED, 5)
    for name in solvers:
        with pytest.raises(PosttrainingError, match="out of reach"):
            solvers[name](PUBLISHED, math.nan)
    with pytest.raises(PosttrainingError, match="layer 1 has no options"):
        choose([[Option(0, 1)], []], 5)
    for bad in (Option(math.nan, 1), Option(-1, 1), Option(1, math.inf), Option(1, -1)):
        with pytest.raises(PosttrainingError, match="not a number of at least 0"):
            choose([[bad]], 5)
    with pytest.raises(PosttrainingError, match="at least 1 bucket"):
        choose(PUBLISHED, 16, 0)
    with pytest.raises(RecipeError, match="Did you mean 'dynamic'"):
        solvers["dynamc"]
