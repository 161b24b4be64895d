"""Rounded weights behind masks and in front of norms."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from secateur.quantization.numbers import rounded, scale_of_tensor
from secateur.quantization.training.links import take_links_
from secateur.quantization.training.ranges import numbers_of
from secateur.quantization.training.schemes import schemes
from secateur.quantization.training.weights import RoundedWeight, attach_, before_rounding, weight_rules
from secateur.recipe.schema.quantization_training import QuantizationTraining
from secateur.sparsity import attach_masks_, set_mask_


def rule_of(scheme, bits=4, **settings):
    wanted = schemes[scheme].filled(QuantizationTraining(scheme=scheme, weight_bits=bits, **settings))
    return weight_rules[schemes[scheme].weights](bits, wanted)


def conv_and_norm(seed=0):
    torch.manual_seed(seed)
    conv, norm = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6).eval()
    with torch.no_grad():
        norm.weight.normal_()
        norm.running_var.uniform_(0.2, 3)
        norm.running_mean.normal_()
        norm.bias.normal_()
    return conv, norm


@settings(max_examples=20)
@given(st.sampled_from(list(schemes)), st.integers(2, 8), st.integers(0, 2**31))
def test_zeros_stay_zeros_under_every_scheme(scheme, bits, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6))
    attach_masks_(model, ["0"])
    kept = torch.rand(6, 3, 3, 3) < 0.4
    set_mask_(model[0], kept)
    attach_(model[0], rule_of(scheme, bits), model[1], 0)
    weight = model[0].weight
    assert not weight[~kept].any() and torch.isfinite(weight).all()
    weight.sum().backward()
    original = model[0].parametrizations.weight.original
    assert original.grad is not None and not original.grad[~kept].any() and original.grad[kept].any()


def test_folded_weights_are_what_is_rounded():
    conv, norm = conv_and_norm()
    plain = conv.weight.detach().clone()
    attach_(conv, rule_of("affine", weight_mode="sym"), norm, 0)
    scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().reshape(-1, 1, 1, 1)
    folded = (plain * scale).numpy()
    wanted = rounded(folded, scale_of_tensor(folded, numbers_of("sym", 4), 0))
    assert np.allclose((conv.weight.detach() * scale).numpy(), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("scheme", ["affine", "tensorflow", "lsq", "dorefa", "wrpn"])
@pytest.mark.parametrize("fold", [True, False])
def test_grid_tells_the_exported_weights(scheme, fold):
    conv, norm = conv_and_norm()
    norm.weight.data[2] = 0.0
    rounding = attach_(conv, rule_of(scheme, fold_norms=fold), norm, 0)
    scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().reshape(-1, 1, 1, 1)
    exported = conv.weight.detach() * scale
    grid = rounding.grid(before_rounding(conv))
    step, zero = grid.step.reshape(-1, 1, 1, 1), grid.zero.reshape(-1, 1, 1, 1)
    integers = exported / step + zero
    assert torch.allclose(integers, integers.round(), atol=1e-3)
    assert integers.round().min() >= grid.numbers.low and integers.round().max() <= grid.numbers.high


def test_gradients_pass_as_without_rounding():
    conv, norm = conv_and_norm()
    plain = copy.deepcopy(conv)
    attach_(conv, rule_of("affine", 8), norm, 0)
    x = torch.randn(2, 3, 8, 8)
    norm(conv(x)).sum().backward()
    norm(plain(x)).sum().backward()
    assert torch.allclose(conv.parametrizations.weight.original.grad, plain.weight.grad, rtol=1e-4, atol=1e-5)


def test_transposed_convolutions_have_their_filters_on_axis_1():
    conv = nn.ConvTranspose2d(3, 5, 2)
    plain = conv.weight.detach().clone()
    attach_(conv, rule_of("affine"), None, 1)
    wanted = rounded(plain.numpy(), scale_of_tensor(plain.numpy(), numbers_of("sym", 4), 1))
    assert np.array_equal(conv.weight.detach().numpy(), wanted)


def test_links_go_one_by_one_and_copies_keep_theirs():
    model = nn.Sequential(nn.Linear(4, 3))
    attach_masks_(model, ["0"])
    set_mask_(model[0], torch.eye(3, 4, dtype=torch.bool))
    attach_(model[0], rule_of("affine"), None, 0)
    twin = copy.deepcopy(model)
    rounded_weight = model[0].weight.detach().clone()
    original = model[0].parametrizations.weight.original
    take_links_(model[0], RoundedWeight)
    assert model[0].parametrizations.weight.original is original
    assert torch.equal(model[0].weight, original.masked_fill(~torch.eye(3, 4, dtype=torch.bool), 0.0))
    assert torch.equal(twin[0].weight, rounded_weight)
    take_links_(twin[0], nn.Module)
    assert type(twin[0]) is nn.Linear and isinstance(twin[0].weight, nn.Parameter)
