"""Levels without a ramp: fixed ones, and random ones that are the same for the same seed."""

import pytest

from secateur.errors import SparsityError
from secateur.sparsity import FixedLevels, RandomLevel


def test_fixed_levels_hold_from_the_first_epoch_on():
    schedule = FixedLevels(0.4, (3, 7))
    assert [schedule.sparsity_at(e) for e in (0, 2, 3, 5, 99)] == [0, 0, 0.4, 0.4, 0.4]
    assert [e for e in range(20) if schedule.due(e)] == [3, 7]
    assert (schedule.first, schedule.stop) == (3, 8)


def test_random_levels_are_drawn_for_every_scheduled_epoch():
    schedule = RandomLevel(0.2, 0.6, 2, 12, 3, seed=4)
    drawn = [schedule.sparsity_at(e) for e in (2, 5, 8, 11)]
    assert len(set(drawn)) == 4 and all(0.2 <= level <= 0.6 for level in drawn)
    assert [schedule.sparsity_at(e) for e in (1, 4, 10, 50)] == [0.0, drawn[0], drawn[2], drawn[3]]
    assert [e for e in range(20) if schedule.due(e)] == [2, 5, 8, 11]


def test_random_levels_depend_on_the_seed_alone():
    epochs = range(2000)
    levels = [RandomLevel(0.0, 1.0, 0, 2000, seed=1).sparsity_at(e) for e in epochs]
    assert levels == [RandomLevel(0.0, 1.0, 0, 2000, seed=1).sparsity_at(e) for e in epochs]
    assert levels != [RandomLevel(0.0, 1.0, 0, 2000, seed=2).sparsity_at(e) for e in epochs]
    # mean and variance of the uniform distribution, within four standard errors
    mean = sum(levels) / 2000
    assert abs(mean - 0.5) < 4 * (1 / 12 / 2000) ** 0.5
    assert abs(sum((level - mean) ** 2 for level in levels) / 2000 - 1 / 12) < 4 * (1 / 180 / 2000) ** 0.5


def test_no_range_is_one_level():
    assert RandomLevel(0.3, 0.3, 0, 5).sparsity_at(4) == 0.3


@pytest.mark.parametrize(
    "make",
    [
        lambda: FixedLevels(0.4, ()),
        lambda: FixedLevels(0.4, (-1,)),
        lambda: FixedLevels(1.4),
        lambda: RandomLevel(0.6, 0.2, 0, 5),
        lambda: RandomLevel(0.2, 0.6, 5, 5),
        lambda: RandomLevel(0.2, 0.6, 0, 5, 0),
        lambda: RandomLevel(-0.2, 0.6, 0, 5),
    ],
)
def test_contradictions_are_sentences(make):
    with pytest.raises(SparsityError, match=r"\.$"):
        make()
