"""Specs and limits of general blocks; their masks are tested with all tiles."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.sparsity import Block, make_mask, parse_pattern

SIDES = st.one_of(st.integers(1, 9), st.just("k"))


@given(st.integers(1, 64), st.integers(1, 64), SIDES, SIDES, st.sampled_from(["short", "dense"]))
def test_specs_make_the_round_trip(filters, channels, height, width, remainder):
    block = Block(filters, channels, height, width, remainder)
    assert parse_pattern(str(block), remainder) == block


def test_two_sides_are_enough():
    assert parse_pattern("block:4x8") == Block(4, 8, 1, 1)


def test_parts_of_the_kernel():
    scores = torch.ones(2, 2, 4, 4)
    scores[:, 0, 2:, :2] = 0.1
    mask = make_mask(scores, parse_pattern("block:2x1x2x2"), 1 / 8)
    assert not mask[:, 0, 2:, :2].any() and int((~mask).sum()) == 8


@pytest.mark.parametrize(
    ("spec", "shape", "groups", "reason"),
    [
        ("block:8x1xkxk", (4, 4, 3, 3), 1, "at least 8 output channels, it has 4"),
        ("block:1x8x1x1", (8, 4, 3, 3), 2, "at least 8 input channels per group, it has 4"),
        ("block:1x1x2x2", (8, 4, 3, 3), 1, "3x3 is not a multiple of 2x2"),
        ("block:1x1x1xk", (8, 4, 3), 1, "two kernel sides, the weight has 1"),
        ("block:2x1x1x1", (8, 1, 3, 3), 8, "depthwise"),
    ],
)
def test_reasons_why_blocks_cannot_apply(spec, shape, groups, reason):
    assert reason in (parse_pattern(spec).applies(shape, groups) or "")


def test_single_kernels_of_depthwise_convolutions_are_blocks_too():
    assert parse_pattern("block:1x1xkxk").applies((8, 1, 3, 3), 8) is None


def test_sides_of_nothing_are_refused():
    with pytest.raises(SparsityError, match="every side of a block is 1 or more"):
        parse_pattern("block:0x4x1x1")
