"""Adam on a few tensors: where it ends, and that nothing gets worse."""

import time

import pytest
import torch

from secateur.errors import PosttrainingError
from secateur.posttraining.descent import FitOptions, descend_


def run(options, start=4.0, wanted=1.0, seconds=None, loss=None, **more):
    tensors = {"layer.weight": torch.full((3,), start), "layer.bias": torch.full((1,), start)}

    def quadratic(batch=0):
        return sum((tensor - wanted).square().sum() for tensor in tensors.values())

    found = descend_(
        tensors,
        lambda: float(quadratic().detach()),
        loss or quadratic,
        1,
        options,
        torch.Generator().manual_seed(0),
        seconds=seconds,
        **more,
    )
    return tensors, found


def test_weights_move_and_biases_only_with_a_rate():
    tensors, found = run(FitOptions(200, 0.1, False))
    assert torch.allclose(tensors["layer.weight"], torch.ones(3), atol=0.05)
    assert float(tensors["layer.bias"]) == 4.0
    assert (found.steps, found.stop) == (200, "steps")
    tensors, _ = run(FitOptions(200, 0.1, False, 0.1))
    assert torch.allclose(tensors["layer.bias"], torch.ones(1), atol=0.05)
    assert not any(tensor.requires_grad for tensor in tensors.values())


def test_small_loss_ends_it():
    _, found = run(FitOptions(10_000, 0.1, False, 0.1, "constant", stop_below=1e-3))
    assert found.stop == "small"
    assert found.steps < 1000
    assert found.after < 1e-3
    assert run(FitOptions(10, stop_below=1e9))[1].steps == 0


def test_worse_is_taken_back():
    tensors, found = run(FitOptions(5, 100.0, False, 100.0, "constant"))
    assert (found.stop, found.after) == ("no gain", found.before)
    assert all(bool((tensor == 4.0).all()) for tensor in tensors.values())


def test_loss_that_is_no_number_is_taken_back():
    tensors, found = run(FitOptions(5), loss=lambda batch: torch.tensor(float("nan"), requires_grad=True))
    assert (found.steps, found.after) == (0, found.before)
    assert bool((tensors["layer.weight"] == 4.0).all())


def test_time_box():
    started = time.monotonic()
    _, found = run(FitOptions(10**9, 1e-3), seconds=0.2)
    assert found.stop == "time"
    assert 0.2 <= time.monotonic() - started < 5
    assert found.after < found.before


def test_cosine_ends_at_rate_zero():
    moves = []
    tensors = {"layer.weight": torch.zeros(1)}
    last = [0.0]

    def after_step(value):
        now = float(tensors["layer.weight"].detach())
        moves.append(abs(now - last[0]))
        last[0] = now

    descend_(
        tensors,
        lambda: -float(tensors["layer.weight"]),
        lambda batch: 100 - tensors["layer.weight"].sum(),
        1,
        FitOptions(20, 0.1, False),
        torch.Generator(),
        after_step=after_step,
    )
    # Adam moves by the rate where the gradient is constant: (1 + cos(pi t / T)) / 2 of it.
    wanted = 0.05 * (1 + torch.cos(torch.pi * torch.arange(20) / 20))
    assert torch.allclose(torch.tensor(moves), wanted, atol=1e-4)


def test_nothing_to_fit():
    assert run(FitOptions(0))[1].stop == "nothing to fit"


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"learning_rate": 0.0}, {"bias_learning_rate": -1.0}])
def test_impossible_options(wrong):
    with pytest.raises(PosttrainingError):
        FitOptions(**wrong)


def test_relative_rate_is_a_share_of_the_size_of_the_weights():
    small, _ = run(FitOptions(1, 0.1, decay="constant"), start=0.5)
    large, _ = run(FitOptions(1, 0.1, decay="constant"), start=4.0)
    assert float(small["layer.weight"][0]) == pytest.approx(0.55)  # Adam's first step is the rate
    assert float(large["layer.weight"][0]) == pytest.approx(3.6)
