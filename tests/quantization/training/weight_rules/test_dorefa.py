"""DoReFa's weights: closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.quantization.training.weight_rules.dorefa import DorefaWeights
from secateur.recipe.schema.quantization_training import QuantizationTraining


def rule_of(bits):
    return DorefaWeights(bits, QuantizationTraining(scheme="dorefa", weight_bits=bits))


@given(st.floats(-2, 2, width=32), st.integers(2, 8))
def test_levels(value, bits):
    levels = 2**bits - 1
    found = float(rule_of(bits)(torch.tensor([[value, 2.0]]))[0, 0])
    x = math.tanh(value) / (2 * math.tanh(2.0)) + 0.5
    # Half to even: where float32 and float64 disagree about a half, both neighbours are right.
    wanted = [(2 * math.floor(x * levels + 0.5 + d) - levels) / levels for d in (-1e-4, 0, 1e-4)]
    assert min(abs(found - w) for w in wanted) < 1e-6


def test_gradient_is_that_of_tanh():
    weight = torch.tensor([[0.3, -1.0]], requires_grad=True)
    rule_of(3)(weight).sum().backward()
    largest = math.tanh(1.0)
    wanted = [(1 - math.tanh(w) ** 2) / largest for w in (0.3, -1.0)]
    assert weight.grad[0].tolist() == pytest.approx(wanted, rel=1e-5)


def test_one_bit():
    weight = torch.tensor([[0.5, -1.5]], requires_grad=True)
    output = rule_of(1)(weight)
    assert output.tolist() == [[1.0, -1.0]]
    output.sum().backward()
    assert weight.grad.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("bits", range(1, 8))
def test_the_grid_tells_all_levels_and_zero(bits):
    weight = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    rule = rule_of(bits)
    grid = rule.grid(weight)
    integers = rule(weight) / grid.step
    assert torch.equal(integers.round() * grid.step, rule(weight))
    assert integers.round().abs().max() <= grid.numbers.high and grid.numbers.bits <= 8


def test_eight_bits_do_not_fit():
    assert "more than 8-bit integers" in rule_of(8).grid(torch.ones(1, 1))
