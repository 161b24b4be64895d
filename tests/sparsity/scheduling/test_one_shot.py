"""All zeros at once."""

import pytest

from secateur.errors import SparsityError
from secateur.sparsity import OneShot


def test_one_shot():
    schedule = OneShot(0.8)
    assert schedule.sparsity_at(0) == schedule.sparsity_at(99) == 0.8
    assert [t for t in range(5) if schedule.due(t)] == [0]
    assert (schedule.unit, schedule.first, schedule.stop) == ("epoch", 0, None)


def test_a_level_is_a_fraction():
    with pytest.raises(SparsityError, match=r"not -0\.1"):
        OneShot(-0.1)
