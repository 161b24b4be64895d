"""What the optimiser decays, and that masked weights stay zero whatever it does."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from secateur.errors import TrainingError
from secateur.recipe import Training
from secateur.sparsity import attach_masks_, fold_masks_, masks, set_mask_
from secateur.training.optimizer import (
    build_optimizer,
    clip_gradients_,
    frozen_biases,
    load_optimizer_tensors_,
    optimizer_tensors,
    rate_of,
    set_learning_rate_,
)


def settings(**values) -> Training:
    return Training.model_validate(values)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_norms_and_biases_do_not_decay(job, name):
    model = job.network(norm=True)
    optimizer = build_optimizer(model, settings(optimizer=name, weight_decay=0.1, learning_rate=0.5))
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, value in model.named_parameters():
        factor = 1 - 0.5 * 0.1 if value.ndim > 1 and name == "adamw" else 1.0
        if name == "sgd" and value.ndim > 1:
            factor = 1 - 0.5 * 0.1 * 1.9  # Nesterov: the gradient and the fresh momentum
        torch.testing.assert_close(value.detach(), before[key] * factor, rtol=1e-6, atol=0)


def test_sgd_with_nesterov_in_closed_form():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    optimizer = build_optimizer(model, settings(momentum=0.5, weight_decay=0.0, learning_rate=0.1))
    velocity, expected = 0.0, 1.0
    for gradient, rate in ((1.0, 0.1), (2.0, 0.05)):
        set_learning_rate_(optimizer, rate)
        model.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
        velocity = 0.5 * velocity + gradient
        expected -= rate * (gradient + 0.5 * velocity)
    assert model.weight.item() == pytest.approx(expected, rel=1e-6)


def test_frozen_biases_keep_their_values_and_weights_train(job):
    model = job.network(norm=True)
    model[4].bias.requires_grad_(False)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    with frozen_biases(model, True):
        optimizer = build_optimizer(model, settings(weight_decay=0.1, learning_rate=0.1))
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.randn(8, 3, job.SIDE, job.SIDE)).square().sum().backward()
            clip_gradients_(model, 1.0)
            optimizer.step()
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert moved == {key for key in before if key.endswith("weight")}
    trainable = {key for key, value in model.named_parameters() if value.requires_grad}
    assert trainable == set(before) - {"4.bias"}, "afterwards they are what they were"


def test_biases_train_unless_they_are_frozen(job):
    model = job.network()
    with frozen_biases(model, False):
        assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_zeros_stay_after_momentum_decay_and_adam(job, name):
    model = job.network(norm=True)
    optimizer = build_optimizer(model, settings(optimizer=name, weight_decay=0.1, learning_rate=0.1))
    images = torch.randn(8, 3, job.SIDE, job.SIDE)

    def step():
        optimizer.zero_grad()
        model(images).square().sum().backward()
        optimizer.step()

    for _ in range(3):  # the optimiser remembers gradients of weights that go
        step()
    torch.manual_seed(0)
    names = ("0", "3", "8")
    attach_masks_(model, names)
    optimizer_before = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in model.parameters()} == optimizer_before, "masks keep the parameters themselves"
    chosen = {key: torch.rand_like(model.get_submodule(key).weight) > 0.6 for key in names}
    for key, mask in chosen.items():
        set_mask_(model.get_submodule(key), mask)
    kept = {key: model.get_submodule(key).weight.detach().clone() for key in names}
    for _ in range(5):
        step()
        for key, mask in chosen.items():
            weight = model.get_submodule(key).weight.detach()
            assert torch.equal(weight[~mask], torch.zeros_like(weight[~mask]))
            assert not torch.equal(weight[mask], kept[key][mask]), "kept weights do train"
    assert all(torch.equal(masks(model)[key], mask) for key, mask in chosen.items())
    fold_masks_(model)
    for key, mask in chosen.items():
        assert not model.get_submodule(key).weight[~mask].any()


def test_clipping_scales_all_gradients_together():
    model = nn.Linear(2, 1)
    model.weight.grad, model.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    clip_gradients_(model, None)
    assert model.bias.grad.item() == 4.0
    clip_gradients_(model, 10.0)
    assert model.bias.grad.item() == pytest.approx(4.0)
    clip_gradients_(model, 1.0)
    torch.testing.assert_close(model.weight.grad, torch.tensor([[0.6, 0.0]]), rtol=1e-5, atol=0)
    torch.testing.assert_close(model.bias.grad, torch.tensor([0.8]), rtol=1e-5, atol=0)


def test_a_model_without_parameters_is_a_sentence():
    with pytest.raises(TrainingError, match="Flatten has no trainable parameter"):
        build_optimizer(nn.Flatten(), settings())


def test_memory_of_another_optimiser_is_a_sentence():
    small, large = nn.Linear(2, 3), nn.Linear(4, 3)
    optimizers = [build_optimizer(model, settings()) for model in (small, large)]
    for model, optimizer in zip((small, large), optimizers, strict=True):
        model(torch.ones(1, model.in_features)).sum().backward()
        optimizer.step()
    with pytest.raises(TrainingError, match=r"'0.momentum_buffer' has shape \(3, 4\), its parameter \(3, 2\)"):
        load_optimizer_tensors_(optimizers[0], optimizer_tensors(optimizers[1]))
    with pytest.raises(TrainingError, match=r"no parameter for the optimiser's tensor '7\.momentum_buffer'"):
        load_optimizer_tensors_(optimizers[0], {"7.momentum_buffer": torch.zeros(1)})


def test_parametrized_biases_freeze_too():
    model = nn.Sequential(nn.Linear(3, 2))
    parametrize.register_parametrization(model[0], "bias", nn.Tanh())
    with frozen_biases(model, True):
        assert not model[0].parametrizations.bias.original.requires_grad and model[0].weight.requires_grad
    assert model[0].parametrizations.bias.original.requires_grad


def test_relative_rates_are_those_of_each_tensors_size():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 0.0, -4.0, 0.0]]).expand(4, 4))
        model[0].bias.zero_()
    before = model[0].weight.detach().clone()
    optimizer = build_optimizer(model, settings(optimizer="adamw", weight_decay=0.0), relative=True)
    set_learning_rate_(optimizer, 0.01)
    assert rate_of(optimizer) == pytest.approx(0.01)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    # The first step of Adam is as long as the rate; zeros do not make a tensor smaller, one of zeros moves a little.
    moved = 0.01 * (25 / 2) ** 0.5
    torch.testing.assert_close(model[0].weight.detach(), before - moved, rtol=0, atol=1e-5)
    torch.testing.assert_close(model[0].bias.detach(), torch.full((4,), -1e-5), rtol=1e-3, atol=0)


def test_the_memory_of_relative_rates_comes_back():
    def stepped(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Linear(4, 4)
        optimizer = build_optimizer(model, settings(optimizer="adamw"), relative=True)
        for number in range(steps):
            step_(model, optimizer, number)
        return model, optimizer

    def step_(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
        set_learning_rate_(optimizer, 0.1)
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.5 + number)
        optimizer.step()

    whole, _ = stepped(3)
    model, optimizer = stepped(2)
    fresh, again = stepped(0)
    fresh.load_state_dict(model.state_dict())
    load_optimizer_tensors_(again, optimizer_tensors(optimizer))
    step_(fresh, again, 2)
    torch.testing.assert_close(fresh.state_dict(), whole.state_dict(), rtol=0, atol=0)
