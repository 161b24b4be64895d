"""1xN masks: whole blocks, exact counts of groups, remainders, groups of convolutions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.sparsity import BlockOf, make_mask, removed_count


def blocks_of(shape: tuple[int, ...], pattern: BlockOf, groups: int) -> list[list[tuple[slice, ...]]]:
    """Every block as the slices of the weight it covers, written from the definition."""
    filters = shape[0] // groups
    found = []
    for group in range(groups):
        for start in range(0, filters, pattern.n):
            stop = min(start + pattern.n, filters)
            if stop - start < pattern.n and pattern.remainder == "dense":
                continue
            rows = slice(group * filters + start, group * filters + stop)
            for channel in range(shape[1]):
                if pattern.span == "kernel":
                    found.append((rows, slice(channel, channel + 1)))
                    continue
                for place in range(math.prod(shape[2:])):
                    position = torch.unravel_index(torch.tensor(place), shape[2:]) if shape[2:] else ()
                    found.append((rows, slice(channel, channel + 1), *(slice(int(p), int(p) + 1) for p in position)))
    return found


CASES = st.tuples(
    st.integers(2, 6),
    st.sampled_from(["kernel", "position"]),
    st.sampled_from(["short", "dense"]),
    st.integers(1, 3),
    st.integers(0, 8),
    st.integers(1, 4),
    st.sampled_from([(), (1, 1), (3, 3), (3,), (2, 2, 2)]),
)


@settings(max_examples=60, deadline=None)
@given(CASES, st.floats(0, 1), st.sampled_from(["floor", "ceil", "nearest"]), st.integers(0, 1000))
def test_every_block_is_whole_and_the_count_exact(case, sparsity, rounding, seed):
    n, span, remainder, groups, more, channels, kernel = case
    if not kernel:
        groups = 1
    if groups > 1:
        channels += 1  # one channel per group would be depthwise
    pattern = BlockOf(n, span, remainder)
    shape = (groups * (n + more), channels, *kernel)
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    mask = make_mask(scores, pattern, sparsity, rounding, groups=groups)
    blocks = blocks_of(shape, pattern, groups)
    assert len(blocks) == pattern.units(shape, groups)
    assert sum(scores[block].numel() for block in blocks) == pattern.prunable(shape, groups)
    removed = [block for block in blocks if not mask[block].any()]
    assert all(mask[block].all() or not mask[block].any() for block in blocks)
    assert len(removed) == removed_count(len(blocks), sparsity, rounding)
    assert int((~mask).sum()) == sum(mask[block].numel() for block in removed)
    means = [float(scores[block].double().mean()) for block in blocks]
    gone = [mean for mean, block in zip(means, blocks, strict=True) if not mask[block].any()]
    stay = [mean for mean, block in zip(means, blocks, strict=True) if mask[block].any()]
    if gone and stay:
        assert max(gone) <= min(stay) + 1e-12


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["kernel", "position"]))
def test_masks_are_nested_in_the_level(seed: int, one: float, other: float, span: str):
    scores = torch.rand(10, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    low, high = sorted((one, other))
    less = make_mask(scores, BlockOf(4, span), high)
    assert not bool((less & ~make_mask(scores, BlockOf(4, span), low)).any())


def test_the_paper_s_rule_on_a_hand_example():
    # Two blocks of 2 filters x 2 channels of 1x1: L1 norms 3, 7 / 11, 1: half of the blocks goes, 1 and 3.
    weight = torch.tensor([[1.0, -3.0], [-2.0, 4.0], [5.0, 0.5], [6.0, -0.5]])[:, :, None, None]
    mask = make_mask(weight.abs(), BlockOf(2), 0.5)
    assert mask[:, :, 0, 0].tolist() == [[False, True], [False, True], [True, False], [True, False]]


def test_kernel_and_fine_are_the_same_for_1x1_layers():
    scores = torch.rand(16, 8, 1, 1)
    assert torch.equal(make_mask(scores, BlockOf(4), 0.6), make_mask(scores, BlockOf(4, "position"), 0.6))


def test_fine_removes_positions_that_kernel_keeps():
    scores = torch.full((4, 1, 3, 3), 2.0)
    scores[:, :, 1, 1] = 1.0
    assert make_mask(scores, BlockOf(4), 0.2).all()
    fine = make_mask(scores, BlockOf(4, "position"), 0.2)
    assert int((~fine).sum()) == 4 and not fine[:, 0, 1, 1].any()


def test_a_short_block_competes_by_its_mean():
    # 5 filters, N = 4: the short block (one filter, 1.0) has a lower sum than the full one (4 x 0.9), a higher mean.
    scores = torch.tensor([[0.9], [0.9], [0.9], [0.9], [1.0]])
    assert make_mask(scores, BlockOf(4), 0.5)[:, 0].tolist() == [False, False, False, False, True]


def test_a_dense_remainder_is_never_removed():
    scores = torch.rand(10, 4, 3, 3) + 1
    scores[8:] = 0
    assert make_mask(scores, BlockOf(4, remainder="dense"), 1.0)[8:].all()
    assert not make_mask(scores, BlockOf(4, remainder="dense"), 1.0)[:8].any()


@pytest.mark.parametrize(
    ("shape", "groups", "kind", "reason"),
    [
        ((32, 1, 3, 3), 32, "depthwise", "does not apply to depthwise"),
        ((3, 8, 3, 3), 1, "conv", "at least 4 output channels, it has 3"),
        ((12, 2, 3, 3), 4, "conv", "per group, it has 3"),
    ],
)
def test_reasons_why_blocks_cannot_apply(shape, groups, kind, reason):
    assert reason in (BlockOf(4).applies(shape, groups, kind) or "")


def test_depthwise_masks_are_refused_with_a_sentence():
    with pytest.raises(SparsityError, match=r"1x4 cannot apply to a weight of shape \(8, 1, 3, 3\)"):
        make_mask(torch.rand(8, 1, 3, 3), BlockOf(4), 0.5, groups=8)
