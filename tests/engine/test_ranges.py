"""Units over threads: every unit once, costs about equal."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from secateur.engine.ranges import split_parts, split_units


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.integers(1, 9))
def test_every_unit_belongs_to_one_thread(costs, threads):
    bounds = split_units(len(costs), np.array(costs), threads)
    assert bounds.shape == (threads + 1,) and bounds[0] == 0 and bounds[-1] == len(costs)
    assert (np.diff(bounds) >= 0).all()


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(1, 9))
def test_no_thread_gets_more_than_its_share_and_one_unit(costs, threads):
    bounds = split_units(len(costs), np.array(costs), threads)
    parts = [sum(costs[a:b]) for a, b in pairwise(bounds)]
    assert max(parts) <= sum(costs) / threads + max(costs)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=40))
def test_two_threads_get_the_best_split(costs):
    bounds = split_units(len(costs), np.array(costs), 2)
    worst = max(sum(costs[: bounds[1]]), sum(costs[bounds[1] :]))
    assert worst == min(max(sum(costs[:i]), sum(costs[i:])) for i in range(len(costs) + 1))


def test_equal_costs():
    assert split_units(13, None, 2).tolist() in ([0, 6, 13], [0, 7, 13])
    assert split_units(4, None, 4).tolist() == [0, 1, 2, 3, 4]
    assert split_units(3, np.zeros(3), 3).tolist() == [0, 1, 2, 3]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 9))
def test_parts_cut_the_range_of_each_thread(costs, threads, parts):
    costs = np.array(costs)
    whole = split_units(len(costs), costs, threads)
    bounds = split_parts(len(costs), costs, threads, parts)
    assert bounds.shape == (threads * parts + 1,) and bounds[::parts].tolist() == whole.tolist()
    for begin, own in zip(whole, pairwise(bounds[::parts]), strict=False):
        inside = bounds[(bounds >= own[0]) & (bounds <= own[1])]
        assert begin == own[0] and (np.diff(inside) >= 0).all()
    assert split_parts(len(costs), costs, threads, 1).tolist() == whole.tolist()


def test_equal_parts():
    assert split_parts(8, None, 2, 2).tolist() == [0, 2, 4, 6, 8]
    assert split_parts(0, None, 2, 2).tolist() == [0, 0, 0, 0, 0]
