"""Biases are whole steps `input x weight` of the exported layer."""

import torch
from torch import nn

from secateur.quantization.training.activation_rules.affine import MovingRange
from secateur.quantization.training.biases import RoundedBias, attach_bias_
from secateur.quantization.training.links import take_links_
from secateur.quantization.training.weight_rules.affine import AffineWeights
from secateur.quantization.training.weights import attach_, before_rounding
from secateur.recipe.schema.quantization_training import QuantizationTraining

CONFIG = QuantizationTraining(per_channel=True, weight_mode="sym", decay=0.99)


def source():
    rule = MovingRange(8, CONFIG)
    rule(torch.tensor([-1.0, 3.0]))
    return rule


def steps_of(rounding, layer, rule):
    return rounding.grid(before_rounding(layer)).step * rule.grid().step


def test_of_a_plain_layer():
    torch.manual_seed(0)
    layer, rule = nn.Linear(5, 4), source()
    plain = layer.bias.detach().clone()
    rounding = attach_(layer, AffineWeights(8, CONFIG), None, 0)
    assert attach_bias_(layer, rounding, rule) is layer
    step = steps_of(rounding, layer, rule)
    assert torch.equal(layer.bias, torch.round(plain / step) * step) and not torch.equal(layer.bias, plain)
    layer(torch.ones(1, 5)).sum().backward()
    assert layer.parametrizations.bias.original.grad.tolist() == [1] * 4
    take_links_(layer, RoundedBias)
    assert torch.equal(layer.bias, plain)


def test_of_a_norm_behind_a_layer():
    torch.manual_seed(0)
    conv, norm, rule = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4).eval(), source()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    plain = norm.bias.detach().clone()
    rounding = attach_(conv, AffineWeights(8, CONFIG), norm, 0)
    assert attach_bias_(conv, rounding, rule) is norm
    exported = norm.bias + (conv.bias - norm.running_mean) * norm.weight / torch.sqrt(norm.running_var + norm.eps)
    integers = exported / steps_of(rounding, conv, rule)
    assert torch.allclose(integers, integers.round(), atol=2e-3)
    norm.train()
    assert torch.equal(norm.bias, plain)


def test_filters_without_weights_keep_theirs_and_norms_without_shift_have_none():
    layer, rule = nn.Linear(5, 2), source()
    layer.weight.data[1] = 0
    rounding = attach_(layer, AffineWeights(8, CONFIG), None, 0)
    plain = layer.bias.detach().clone()
    attach_bias_(layer, rounding, rule)
    assert layer.bias[1] == plain[1]
    conv = nn.Conv2d(3, 4, 1)
    norm = nn.BatchNorm2d(4, affine=False)
    assert attach_bias_(conv, attach_(conv, AffineWeights(8, CONFIG), norm, 0), rule) is None
