"""The learning rate in closed form, step by step."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import TrainingError
from secateur.recipe import Training
from secateur.training import learning_rate


def rates(steps_per_epoch: int, **settings) -> list[float]:
    config = Training.model_validate(settings)
    return [learning_rate(config, step, steps_per_epoch) for step in range(config.epochs * steps_per_epoch)]


def test_constant():
    assert rates(3, epochs=2, learning_rate=0.3, decay="constant") == [0.3] * 6


def test_cosine_at_its_quarters():
    found = rates(4, epochs=2, learning_rate=1.0)
    assert found[0] == 1.0
    assert found[2] == pytest.approx((1 + math.sqrt(0.5)) / 2, rel=1e-12)
    assert found[4] == pytest.approx(0.5, rel=1e-12)
    assert found[6] == pytest.approx((1 - math.sqrt(0.5)) / 2, rel=1e-12)
    assert found[7] == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2, rel=1e-12)


def test_cosine_ends_where_it_is_told():
    found = rates(1000, epochs=1, learning_rate=1.0, final_learning_rate=0.2)
    assert found[500] == pytest.approx(0.6, rel=1e-12)
    assert found[-1] == pytest.approx(0.2, abs=1e-5)


def test_step_multiplies_at_the_first_step_of_its_epochs():
    found = rates(2, epochs=4, learning_rate=1.0, decay="step", step_epochs=(1, 3), step_gamma=0.1)
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_warm_up_is_linear_in_steps_and_ends_at_the_base_rate():
    found = rates(4, epochs=3, learning_rate=0.8, warmup_epochs=1.0)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert found[8] == pytest.approx(0.4), "the cosine runs over the steps after the warm-up"


def test_warm_up_of_a_part_of_an_epoch():
    assert rates(4, epochs=1, learning_rate=1.0, warmup_epochs=0.5, decay="constant") == [0.5, 1.0, 1.0, 1.0]


def test_warm_up_longer_than_the_run_is_a_sentence():
    with pytest.raises(TrainingError, match="a warm-up of 2 epochs leaves nothing of a run of 2"):
        rates(4, epochs=2, warmup_epochs=2.0)


@given(
    epochs=st.integers(2, 12),
    steps=st.integers(1, 40),
    warmup=st.floats(0, 1.4),
    base=st.floats(1e-4, 1.0),
    share=st.floats(0, 1),
)
def test_cosine_never_rises_after_the_warm_up_nor_leaves_its_range(epochs, steps, warmup, base, share):
    found = rates(steps, epochs=epochs, warmup_epochs=warmup, learning_rate=base, final_learning_rate=share * base)
    peak = round(warmup * steps)
    assert all(one <= other * (1 + 1e-12) for one, other in zip(found[peak + 1 :], found[peak:-1], strict=True))
    assert all(one < other for one, other in itertools.pairwise(found[:peak]))
    assert found[peak] == base and max(found) <= base * (1 + 1e-12)
    assert min(found[peak:]) >= share * base * (1 - 1e-12)
