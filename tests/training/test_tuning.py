import pytest

from secateur.recipe import Tuning
from secateur.training.tuning import adapted, rate_at


def test_a_network_that_is_near_is_tuned_gently():
    rates = [adapted(Tuning(), distance).learning_rate for distance in (10.0, 0.2, 0.05, 0.0125, 0.0)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-2 * 0.25**0.5, 1e-2 * 0.0625**0.5, 5e-4])
    # Once adapted it stays as it is.
    assert adapted(adapted(Tuning(), 0.05), 0.05).learning_rate == pytest.approx(1e-2 * 0.25**0.5)


def test_a_rate_that_was_asked_for_stays():
    assert adapted(Tuning(learning_rate=0.03, adapt_rate=False), 0.001).learning_rate == 0.03


def test_the_rate_rises_and_falls_to_zero():
    settings = Tuning(learning_rate=0.1, warmup=0.2)
    assert [rate_at(settings, share) for share in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0, 0.05, 0.1, 0.05, 0])


def test_the_rate_rises_again_after_going_back():
    settings = Tuning(learning_rate=0.1, warmup=0.2)
    assert rate_at(settings, 0.6, since=0.6) == 0.0
    assert rate_at(settings, 0.6, since=0.5) == pytest.approx(0.5 * rate_at(settings, 0.6))
    assert rate_at(settings, 0.8, since=0.5) == pytest.approx(rate_at(settings, 0.8))
