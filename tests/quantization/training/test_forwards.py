"""Rewritten forward passes compute what modules compute, with calls in between; the tree of modules stays."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from rounded_networks import Residual, everything, images
from secateur.quantization.training.forwards import Place, forwards_of, insert_, is_rewritten, restore_


def all_places(forwards):
    return [place for name, forward in forwards.items() for place in forward.places(name)]


def test_nothing_changes_with_calls_that_do_nothing():
    model, x = everything(), images()
    wanted, names = model(x), [name for name, _ in model.named_modules()]
    forwards, closed = forwards_of(model)
    assert not closed and set(forwards) == {"", "residual", "inverted", "inverted.conv", "shuffle", "shuffle.branch"}
    insert_(model, forwards, {place: lambda value: value for place in all_places(forwards)})
    assert torch.equal(model(x), wanted) and names == [name for name, _ in model.named_modules()]
    assert is_rewritten(model)
    restore_(model)
    assert not is_rewritten(model) and torch.equal(model(x), wanted)


def test_readers_get_what_the_call_gives():
    model = everything()
    forwards, _ = forwards_of(model)
    place = next(p for p in forwards["residual"].places("residual") if p.name == "relu")
    assert str(place) == "residual:relu"
    insert_(model, forwards, {place: lambda value: torch.zeros_like(value)})
    block = model.residual
    zero = block.bn2(block.conv2(torch.zeros(2, 8, 4, 4)))
    assert torch.equal(block(torch.ones(2, 8, 4, 4)), F.relu(zero + 1))


def test_modes_and_hooks_work_inside():
    """A functional dropout follows the mode; hooks on blocks are called."""
    model, x = everything(), images()
    forwards, _ = forwards_of(model)
    insert_(model, forwards, {forwards[""].places("")[0]: lambda value: value})
    seen = []
    model.residual.register_forward_hook(lambda *_: seen.append(1))
    torch.manual_seed(0)
    first = model.train()(x)
    torch.manual_seed(0)
    restore_(model)
    assert torch.equal(model(x), first) and seen == [1, 1]
    assert torch.equal(model.eval()(x), model(x))


def test_copies_have_calls_of_their_own():
    model, x = everything(), images()
    forwards, _ = forwards_of(model)
    scale = nn.PReLU(init=1.0)
    model.add_module("scale", scale)
    insert_(model, forwards, {next(p for p in forwards["residual"].places("residual") if p.name == "bn1"): scale})
    twin = copy.deepcopy(model)
    twin.scale.weight.data.fill_(-3.0)
    assert torch.equal(model(x), everything()(x)) and not torch.equal(twin(x), model(x))


class Closed(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


class OtherInTraining(nn.Module):
    def forward(self, x):
        return x + 1 if self.training else x


class Constant(nn.Module):
    def forward(self, x):
        return x + torch.tensor([1.0, 2.0])


def test_what_cannot_be_traced_is_left_alone():
    model = nn.Sequential(Closed(), OtherInTraining(), Constant(), Residual(2))
    forwards, closed = forwards_of(model)
    assert set(closed) == {"0", "1"} and "cannot trace Closed" in closed["0"]
    assert "something else in training" in closed["1"]
    assert not any(name.startswith("_tensor") for name in vars(model[2]))
    insert_(model, forwards, {place: lambda value: value for place in all_places(forwards)})
    x = torch.ones(1, 2)
    assert model[2](x).tolist() == [[2, 3]]
    restore_(model)
    assert model[2](x).tolist() == [[2, 3]]


def test_a_sequential_does_not_run_what_is_added_to_it():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    forwards, _ = forwards_of(model)
    insert_(model, forwards, {})
    model.add_module("rules", nn.ModuleDict())
    assert model(torch.ones(1, 2)).shape == (1, 2)
    assert Place("", 0, "x") == Place("", 0, "x")
