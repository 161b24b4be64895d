"""The learning rate in closed form, step by step."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import TrainingError
from secateur.recipe import Training
from secateur.training import Row, learning_rate
from secateur.training.learning_rate import plateaus


def rates(steps_per_epoch: int, **values) -> list[float]:
    config = Training.model_validate(values)
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


def test_a_factor_for_each_milestone():
    found = rates(1, epochs=6, learning_rate=1.0, decay="step", step_epochs=(1, 3, 4), step_gammas=(0.5, 0.1, 2.0))
    assert found == pytest.approx([1, 0.5, 0.5, 0.05, 0.1, 0.1])


def test_exponential_by_epochs():
    found = rates(2, epochs=3, learning_rate=0.8, decay="exponential", step_gamma=0.5)
    assert found == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2])


def test_polynomial_by_epochs():
    found = rates(2, epochs=4, learning_rate=0.8, decay="polynomial", decay_power=2.0)
    assert found[::2] == found[1::2] == pytest.approx([0.8, 0.45, 0.2, 0.05])


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"decay": "exponential", "step_gamma": 0.5}, [1, 1, 1, 0.5, 0.25, 0.25, 0.25]),
        ({"decay": "polynomial"}, [1, 1, 1, 2 / 3, 1 / 3, 1 / 3, 1 / 3]),
        ({"decay": "step", "step_epochs": (1, 3, 6), "step_gamma": 0.1}, [1, 1, 1, 0.1, 0.1, 0.1, 0.1]),
        ({"decay": "cosine"}, [1, 1, 1, 0.75, 0.25, 0.25, 0.25]),
    ],
)
def test_a_decay_acts_in_its_own_epochs_only(given, values):
    found = rates(1, epochs=7, learning_rate=1.0, decay_start=2, decay_end=5, **given)
    assert found == pytest.approx(values)


def test_a_decay_may_end_beyond_the_run():
    found = rates(1, epochs=3, learning_rate=1.0, decay="polynomial", decay_end=4)
    assert found == pytest.approx([1, 0.75, 0.5])


def test_a_decay_that_starts_beyond_the_run_never_does():
    assert rates(1, epochs=3, learning_rate=1.0, decay_start=5) == [1.0] * 3


def rows(losses) -> list[Row]:
    return [Row(epoch, 0.1, 1.0, 50.0, 50.0, 90.0, loss, 0.0, 1.0) for epoch, loss in enumerate(losses)]


def test_a_plateau_is_waited_for():
    config = Training(epochs=9, learning_rate=1.0, decay="plateau", step_gamma=0.5, decay_patience=1)
    losses = [5.0, 4.0, 4.0, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0]
    found = [learning_rate(config, 3 * epoch + 2, 3, rows(losses[:epoch])) for epoch in range(10)]
    assert found == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125])


@settings(deadline=None)  # torch loads half of itself for the first optimiser
@given(
    losses=st.lists(st.floats(0.1, 2.0) | st.sampled_from([1.0, 1.00005, 0.99995, 0.9998]), max_size=30),
    patience=st.integers(0, 4),
)
def test_plateaus_are_those_of_torch(losses, patience):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, eps=0.0)
    for loss in losses:
        scheduler.step(loss)
    assert optimizer.param_groups[0]["lr"] == 0.5 ** plateaus(losses, patience)


def test_a_loss_that_is_no_number_is_not_better():
    assert plateaus([None, None, 1.0], 1) == 1
    assert plateaus([1.0, None, 0.5, None], 0) == 2


def test_a_plateau_outside_the_epochs_of_the_decay_does_not_count():
    config = Training(epochs=9, decay="plateau", learning_rate=1.0, decay_patience=0, decay_start=3, decay_end=5)
    losses = [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert learning_rate(config, 3, 1, rows(losses[:3])) == 1.0
    assert learning_rate(config, 8, 1, rows(losses)) == pytest.approx(0.1)


def test_a_warm_up_longer_than_its_decay_is_a_sentence():
    with pytest.raises(TrainingError, match="leaves nothing of a decay that ends at epoch 2"):
        rates(4, epochs=9, warmup_epochs=2.0, decay_end=2)


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
