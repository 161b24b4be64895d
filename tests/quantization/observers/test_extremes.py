"""Ranges from extremes, in closed form."""

import numpy as np
import pytest

from secateur.errors import RecipeError
from secateur.quantization.numbers import ACTIVATIONS
from secateur.quantization.observers import Average, MinMax, Moving
from secateur.quantization.seen import Seen

BATCHES = [np.array([[-1.0, 2.0], [0.0, 4.0]]), np.array([[-3.0, 1.0]])]


def seen():
    found = Seen()
    for batch in BATCHES:
        found.add(batch)
    return found


def test_minmax():
    assert MinMax(seen()).range(ACTIVATIONS) == (-3.0, 4.0)


def test_average_of_images():
    low, high = Average(seen()).range(ACTIVATIONS)
    assert low == pytest.approx((-1 + 0 - 3) / 3)
    assert high == pytest.approx((2 + 4 + 1) / 3)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_moving(decay):
    low, high = Moving(seen(), decay).range(ACTIVATIONS)
    assert low == pytest.approx(decay * -1 + (1 - decay) * -3)
    assert high == pytest.approx(decay * 4 + (1 - decay) * 1)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_impossible_decays(decay):
    with pytest.raises(RecipeError, match="decays"):
        Moving(decay=decay)


def test_an_observer_may_look_for_itself():
    observer = MinMax()
    observer.add(BATCHES[0])
    assert observer.range(ACTIVATIONS) == (-1.0, 4.0)
    assert observer.scale(ACTIVATIONS).step == np.float32(5 / 255)
