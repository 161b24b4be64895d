"""What all schedules have in common, under the names of the recipe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.sparsity import Schedule, schedules

MAKERS = {
    "one_shot": lambda: schedules["one_shot"](0.7),
    "agp": lambda: schedules["agp"](3, 20, 2, 0.1, 0.7),
    "agp_iterations": lambda: schedules["agp_iterations"](40, 0.7, every=3),
    "linear": lambda: schedules["linear"](3, 20, 2, 0.1, 0.7),
    "polynomial": lambda: schedules["polynomial"](3, 20, 2, 0.1, 0.7, "iteration", 2.0),
    "exponential": lambda: schedules["exponential"](3, 20, 2, 0.1, 0.7),
    "cosine": lambda: schedules["cosine"](3, 20, 2, 0.1, 0.7),
    "cubic_steps": lambda: schedules["cubic_steps"](3, 4, 5, 0.1, 0.7),
    "fixed": lambda: schedules["fixed"](0.7, (2, 5, 9)),
    "random": lambda: schedules["random"](0.2, 0.7, 3, 20, 2),
}


def test_every_schedule_is_known_under_its_kind():
    assert set(MAKERS) == set(schedules)


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_levels_change_only_where_masks_do(kind):
    schedule: Schedule = MAKERS[kind]()
    assert schedule.due(schedule.first)
    assert not any(schedule.due(t) for t in range(schedule.first))
    assert schedule.stop is None or not any(schedule.due(t) for t in range(schedule.stop, 200))
    if kind != "agp_iterations":  # whose level rises at every iteration, while masks change at some
        for t in range(schedule.first + 1, 60):
            assert schedule.due(t) or schedule.sparsity_at(t) == schedule.sparsity_at(t - 1)
    assert all(0.0 <= schedule.sparsity_at(t) <= schedule.final for t in range(60))


@pytest.mark.parametrize("kind", sorted(set(MAKERS) - {"random"}))
def test_levels_never_fall_and_end_at_the_final_one(kind):
    schedule: Schedule = MAKERS[kind]()
    levels = [schedule.sparsity_at(t) for t in range(60)]
    assert levels == sorted(levels)
    assert levels[-1] == schedule.final == 0.7


@given(st.integers(0, 9), st.integers(1, 9), st.integers(1, 5))
def test_equal_schedules_are_equal_and_pure(start, rises, every):
    one, other = (schedules["linear"](start, start + rises * every + 1, every, 0.1, 0.6) for _ in range(2))
    assert one == other and repr(one) == repr(other)
    assert [one.sparsity_at(t) for t in range(50)] == [other.sparsity_at(t) for t in range(50)]
