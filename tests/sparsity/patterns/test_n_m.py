"""N:M along input channels: exact groups, which layers stay dense, rising levels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.sparsity import NM, make_mask, parse_pattern

KERNELS = st.sampled_from([(), (1, 1), (3, 3), (3,)])


@st.composite
def cases(draw, skip="multiple"):
    m = draw(st.integers(2, 8))
    n = draw(st.integers(1, m - 1))
    kernel = draw(KERNELS)
    groups = draw(st.integers(1, 3)) if kernel else 1
    channels = m * draw(st.integers(1, 3)) if skip == "multiple" else draw(st.integers(n + 1, 3 * m))
    shape = (groups * draw(st.integers(1, 4)), max(channels, 2), *kernel)
    return NM(n, m, skip), shape, groups


def groups_of_m(mask, m):
    """(rows, groups, M) of the view in which groups lie along input channels."""
    return mask.movedim(1, -1).reshape(-1, mask.shape[1] // m, m)


def test_oracle():
    weight = torch.tensor([[0.1, -0.9, 0.5, 0.2]])
    assert make_mask(weight.abs(), parse_pattern("2:4"), 0.5).tolist() == [[False, True, True, False]]


@settings(max_examples=150, deadline=None)
@given(cases(), st.integers(0, 1000))
def test_every_group_keeps_its_n_largest(case, seed):
    pattern, shape, groups = case
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    mask = make_mask(scores, pattern, 1 - pattern.n / pattern.m, groups=groups)
    kept, values = groups_of_m(mask, pattern.m), groups_of_m(scores, pattern.m)
    assert (kept.sum(-1) == pattern.n).all()
    assert int((~mask).sum()) == pattern.zeros(shape, 1 - pattern.n / pattern.m, groups=groups)
    lowest_kept = values.masked_fill(~kept, 2).amin(-1)
    highest_gone = values.masked_fill(kept, -1).amax(-1)
    assert (highest_gone <= lowest_kept).all()


@settings(max_examples=100, deadline=None)
@given(cases(), st.floats(0, 1), st.integers(0, 1000))
def test_below_its_level_the_groups_that_lose_least_come_first(case, share, seed):
    pattern, shape, groups = case
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    level = share * (1 - pattern.n / pattern.m)
    mask = make_mask(scores, pattern, level, groups=groups)
    kept, values = groups_of_m(mask, pattern.m), groups_of_m(scores, pattern.m).double()
    sizes = set(kept.sum(-1).flatten().tolist())
    assert sizes <= {pattern.n, pattern.m}
    cut = (kept.sum(-1) == pattern.n).flatten()
    assert int(cut.sum()) == pattern.removed_units(shape, level, groups=groups)
    assert int((~mask).sum()) == pattern.zeros(shape, level, groups=groups)
    lowest = values.sort(-1).values[..., : pattern.m - pattern.n].sum(-1)
    lost = (lowest / values.sum(-1)).flatten()
    if cut.any() and not cut.all():
        assert lost[cut].max() <= lost[~cut].min() + 1e-12


@given(st.integers(0, 1000), st.floats(0, 0.5), st.floats(0, 0.5))
def test_masks_are_nested_in_the_level(seed, one, other):
    scores = torch.rand(6, 8, 3, 3, generator=torch.Generator().manual_seed(seed))
    low, high = sorted((one, other))
    less, more = (make_mask(scores, NM(), level) for level in (high, low))
    assert not bool((less & ~more).any())


@settings(max_examples=100, deadline=None)
@given(cases(skip="pad"), st.integers(0, 1000))
def test_an_incomplete_group_counts_as_if_zeros_filled_it_up(case, seed):
    pattern, shape, groups = case
    if groups > 1 and shape[1] == 1:
        return
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) + 0.1
    mask = make_mask(scores, pattern, 1 - pattern.n / pattern.m, groups=groups)
    missing = -shape[1] % pattern.m
    padded = torch.cat([scores, torch.zeros(shape[0], missing, *shape[2:])], 1)
    filled = make_mask(padded, NM(pattern.n, pattern.m), 1 - pattern.n / pattern.m, groups=groups)
    rest = shape[1] % pattern.m
    whole = shape[1] - rest
    assert torch.equal(mask[:, :whole], filled[:, :whole])
    assert (mask[:, whole:].sum(1) == min(rest, pattern.n)).all()
    assert torch.equal(mask[:, whole:], filled[:, whole : shape[1]])
    assert int((~mask).sum()) == pattern.zeros(shape, 1 - pattern.n / pattern.m, groups=groups)


def test_equal_weights_go_in_index_order():
    assert make_mask(torch.ones(1, 8), NM(), 0.5).tolist() == [[False, False, True, True] * 2]


def test_a_group_of_zeros_loses_nothing():
    scores = torch.ones(1, 8)
    scores[0, 4:] = 0
    assert make_mask(scores, NM(), 0.25).tolist() == [[True] * 4 + [False, False, True, True]]


@pytest.mark.parametrize(
    ("spec", "shape", "groups", "reason"),
    [
        ("2:4", (8, 3, 3, 3), 1, "a multiple of 4 input channels, it has 3; or use 2:4/pad"),
        ("2:4", (8, 1, 3, 3), 8, "depthwise"),
        ("2:4/tensor_core", (12, 16), 1, "it has 12 and 16"),
        ("2:4/tensor_core", (8, 20), 1, "it has 8 and 20"),
        ("2:4/pad", (8, 2, 3, 3), 1, "at least 3 input channels, it has 2"),
    ],
)
def test_layers_that_stay_dense(spec, shape, groups, reason):
    assert reason in (parse_pattern(spec).applies(shape, groups) or "")


def test_layers_that_do_not():
    assert parse_pattern("2:4/tensor_core").applies((8, 16, 3, 3)) is None
    assert parse_pattern("2:4/pad").applies((8, 3, 3, 3)) is None


@pytest.mark.parametrize("spec", ["4:4", "0:4", "5:4", "2:128"])
def test_impossible_patterns_are_refused(spec):
    with pytest.raises(SparsityError, match="N:M keeps 1 to M - 1"):
        parse_pattern(spec)


def test_unknown_rules_are_refused():
    with pytest.raises(SparsityError, match="Did you mean 'tensor_core'"):
        parse_pattern("2:4/tensorcore")


def test_more_than_its_level_is_refused():
    with pytest.raises(SparsityError, match=r"2:4 removes at most 0.5 of the weights, not 0.6"):
        make_mask(torch.rand(4, 4), NM(), 0.6)


@given(st.integers(1, 31), st.integers(2, 32), st.sampled_from(["multiple", "tensor_core", "pad"]))
def test_specs_make_the_round_trip(n, m, skip):
    if n < m:
        assert parse_pattern(str(NM(n, m, skip))) == NM(n, m, skip)
