"""Masks survive everything training does to a network, and leave no trace when folded."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from secateur.errors import SparsityError
from secateur.sparsity import attach_masks_, fold_masks_, has_masks, masks, set_mask_, stored_weight


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))


def masked() -> nn.Sequential:
    model = network()
    attach_masks_(model, ["0", "4"])
    for name, mask in masks(model).items():
        drawn = torch.rand(mask.shape, generator=torch.Generator().manual_seed(1)) > 0.6
        set_mask_(model.get_submodule(name), drawn)
    return model


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(4, 3, 4, 4)).square().mean().backward()
    optimizer.step()


OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_zeros_survive_the_optimizer(optimizer: str):
    model = network()
    attach_masks_(model, ["0", "4"])
    chosen = OPTIMIZERS[optimizer](model.parameters())
    for _ in range(3):  # dense steps first: momentum would push removed weights on
        step(model, chosen)
    for name, mask in masks(model).items():
        set_mask_(model.get_submodule(name), torch.rand(mask.shape) > 0.6)
    before = {name: model.get_submodule(name).weight.detach().clone() for name in ("0", "4")}
    for _ in range(5):
        step(model, chosen)
    for name, mask in masks(model).items():
        weight = model.get_submodule(name).weight
        assert torch.equal(weight == 0, ~mask)
        assert not torch.equal(weight[mask], before[name][mask])


def test_removed_weights_get_no_gradient():
    model = masked()
    model(torch.randn(4, 3, 4, 4)).square().mean().backward()
    gradient = stored_weight(model[0]).grad
    mask = masks(model)["0"]
    assert gradient is not None and not gradient[~mask].any() and gradient[mask].any()


def test_state_dict_makes_the_round_trip():
    model, other = masked(), network()
    attach_masks_(other, ["0", "4"])
    other.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 4, 4)
    assert torch.equal(model.eval()(images), other.eval()(images))
    assert all(torch.equal(mask, masks(other)[name]) for name, mask in masks(model).items())


def test_a_copy_is_independent():
    model = masked()
    twin = copy.deepcopy(model)
    set_mask_(twin[0], torch.zeros_like(masks(twin)["0"]))
    assert not twin[0].weight.any() and model[0].weight.any()
    fold_masks_(twin)
    assert not has_masks(twin) and has_masks(model)
    images = torch.randn(2, 3, 4, 4)
    model(images), twin(images)


def test_folding_keeps_the_function_and_takes_every_trace_away():
    model = masked().eval()
    plain = set(network().state_dict())
    images = torch.randn(2, 3, 4, 4)
    before, kept = model(images), {name: mask.clone() for name, mask in masks(model).items()}
    fold_masks_(model)
    assert torch.equal(model(images), before)
    assert set(model.state_dict()) == plain and type(model[0]) is nn.Conv2d
    assert not has_masks(model)
    for name, mask in kept.items():
        weight = model.get_submodule(name).weight
        assert isinstance(weight, nn.Parameter) and torch.equal(weight == 0, ~mask)
    step(model, torch.optim.SGD(model.parameters(), 0.1))


def test_no_negative_zero_is_ever_written():
    layer = nn.Linear(3, 1, bias=False)
    layer.weight.data = torch.tensor([[-1.0, -2.0, 3.0]])
    model = nn.Sequential(layer)
    attach_masks_(model, ["0"])
    set_mask_(layer, torch.tensor([[False, True, False]]))
    fold_masks_(model)
    assert layer.weight.tolist() == [[0.0, -2.0, 0.0]]
    assert not torch.signbit(layer.weight[layer.weight == 0]).any()


def test_shared_weights_have_one_mask():
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight = one.weight
    model = nn.Sequential(one, other)
    attach_masks_(model, ["0"])
    set_mask_(one, torch.eye(4, dtype=torch.bool))
    assert torch.equal(one.weight, other.weight) and int((other.weight == 0).sum()) == 12
    fold_masks_(model)
    assert one.weight is other.weight and int((one.weight == 0).sum()) == 12
    assert len(list(model.parameters())) == 3


def test_attaching_twice_keeps_the_mask():
    model = masked()
    before = masks(model)["0"].clone()
    attach_masks_(model, ["0"])
    assert torch.equal(masks(model)["0"], before)


def test_a_weight_that_is_computed_already_is_refused_by_name():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)))
    with pytest.raises(SparsityError, match="0: the weight is parametrized already"):
        attach_masks_(model, ["0"])


def test_mistakes_are_sentences():
    model = masked()
    with pytest.raises(SparsityError, match="unknown layer '1'"):
        attach_masks_(model, ["1"])
    with pytest.raises(SparsityError, match="has no mask"):
        set_mask_(nn.Linear(2, 2), torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(SparsityError, match="must be boolean"):
        set_mask_(model[4], torch.ones(4, 128))
    with pytest.raises(SparsityError, match="of that shape"):
        set_mask_(model[4], torch.ones(4, 127, dtype=torch.bool))
