"""Masks in rounds: exact counts at all levels, and better than one round."""

import pytest
import torch

from secateur.posttraining import Gram
from secateur.posttraining.column_masks import choose_masks
from secateur.posttraining.polish import least_squares
from secateur.posttraining.problem import problem_of
from secateur.posttraining.sets import sets_of
from secateur.sparsity import parse_pattern

SHAPE = (12, 8, 3, 3)


def problem():
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn((72, 72), generator=generator) / 8 + torch.eye(72)) @ torch.randn((72, 300), generator=generator)
    x = x.relu().double()[None]
    return problem_of(torch.randn(SHAPE, generator=generator), Gram(x @ x.mT / 300, x.mean(2), 300))


@pytest.mark.parametrize("spec", ["unstructured", "1x4", "kernel", "4in", "channel"])
def test_levels_come_in_the_order_asked_for(spec):
    pattern = parse_pattern(spec)
    masks = choose_masks(problem(), pattern, sets_of(pattern, SHAPE, 1), [0.75, 0.0, 1.0, 0.5], "floor")
    zeros = [int((~mask).sum()) for mask in masks]
    assert zeros == [pattern.zeros(SHAPE, level) for level in (0.75, 0.0, 1.0, 0.5)]


@pytest.mark.parametrize("spec", ["unstructured", "1:4", "1x4"])
def test_rounds_are_better_than_one(spec):
    pattern, layer = parse_pattern(spec), problem()
    level = pattern.fixed_level or 0.7

    def error(in_rounds):
        sets = sets_of(pattern, SHAPE, 1)
        (mask,) = choose_masks(layer, pattern, sets, [level], "floor", in_rounds=in_rounds)
        rows = least_squares(layer.weight, layer.inverse, mask.reshape(layer.weight.shape))
        return float(layer.errors(rows).sum())

    assert error(True) < error(False)
