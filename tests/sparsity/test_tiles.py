"""Every pattern of tiles against its definition, written out weight by weight."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.sparsity import Tiles, make_mask, parse_pattern, removed_count

KERNELS = st.sampled_from([(), (1,), (3,), (1, 1), (3, 3), (2, 1), (2, 2, 2)])
SPECS = (
    "unstructured",
    "1x2",
    "1x3",
    "1x2-fine",
    "kernel",
    "filter",
    "channel",
    "4in",
    "block:2x2x1x1",
    "block:1x3x1x1",
    "block:3x1xkxk",
    "block:2x4xkxk",
)


def tiles_of(shape, pattern, groups):
    """Tile -> places of the weight, in the order of units; written with loops."""
    sides = pattern.tile(shape, groups)
    filters = shape[0] // groups
    found = []
    for group in range(groups):
        extents = (filters, *shape[1:])
        starts = [range(0, extent, side) for extent, side in zip(extents, sides, strict=True)]
        for start in product(*starts):
            ends = [min(at + side, extent) for at, side, extent in zip(start, sides, extents, strict=True)]
            whole = all(end - at == side for at, end, side in zip(start, ends, sides, strict=True))
            if pattern.remainder == "dense" and not whole:
                continue
            places = list(product(*(range(at, end) for at, end in zip(start, ends, strict=True))))
            found.append([(group * filters + place[0], *place[1:]) for place in places])
    return found


@st.composite
def cases(draw):
    spec = draw(st.sampled_from(SPECS))
    remainder = draw(st.sampled_from(["short", "dense"]))
    kernel = draw(KERNELS)
    groups = draw(st.integers(1, 3)) if kernel else 1
    shape = (groups * draw(st.integers(3, 7)), draw(st.integers(2 if groups > 1 else 1, 6)), *kernel)
    pattern = parse_pattern(spec, remainder)
    if pattern.applies(shape, groups):
        shape = (shape[0], 6, *kernel)
    assert pattern.applies(shape, groups) is None
    return pattern, shape, groups


@settings(max_examples=120, deadline=None)
@given(cases(), st.floats(0, 1), st.sampled_from(["floor", "ceil", "nearest"]), st.integers(0, 1000))
def test_units_are_whole_their_number_exact_and_the_lowest_go(case, sparsity, rounding, seed):
    pattern, shape, groups = case
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    units = tiles_of(shape, pattern, groups)
    mask = make_mask(scores, pattern, sparsity, rounding, groups=groups)
    assert len(units) == pattern.units(shape, groups)
    assert sum(map(len, units)) == pattern.prunable(shape, groups)
    kept = [[bool(mask[place]) for place in unit] for unit in units]
    assert all(len(set(unit)) == 1 for unit in kept)
    removed = [index for index, unit in enumerate(kept) if not unit[0]]
    assert len(removed) == pattern.removed_units(shape, sparsity, rounding, groups)
    if "filter" not in str(pattern) and "channel" not in str(pattern):
        assert len(removed) == removed_count(len(units), sparsity, rounding)
    assert int((~mask).sum()) == sum(len(units[index]) for index in removed)
    means = [sum(float(scores[place]) for place in unit) / len(unit) for unit in units]
    torch.testing.assert_close(pattern.group_scores(scores, groups).double(), torch.tensor(means).double())
    lowest = sorted(means)[: len(removed)]
    assert sorted(means[index] for index in removed) == pytest.approx(lowest)


@settings(max_examples=80, deadline=None)
@given(cases(), st.sampled_from(["sum", "max"]), st.integers(0, 1000))
def test_sums_and_maxima(case, combine, seed):
    pattern, shape, groups = case
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    together = sum if combine == "sum" else max
    wanted = [together(float(scores[place]) for place in unit) for unit in tiles_of(shape, pattern, groups)]
    found = pattern.group_scores(scores, groups, combine)
    torch.testing.assert_close(found.double(), torch.tensor(wanted).double(), atol=1e-5, rtol=1e-5)


def test_1xn_kernels_are_blocks_of_n_by_1_by_all():
    scores = torch.rand(10, 3, 3, 3)
    for one, other in (
        ("1x4", "block:4x1xkxk"),
        ("1x4-fine", "block:4x1x1x1"),
        ("kernel", "block:1x1xkxk"),
        ("4in", "block:1x3x1x1"),
    ):
        masks = [make_mask(scores, parse_pattern(spec), 0.5) for spec in (one, other)]
        assert torch.equal(*masks), (one, other)


def test_oracle_of_1x2_blocks():
    weight = torch.tensor([[1.0, 0.2], [0.9, 0.1], [0.1, 2.0], [0.2, 1.5]])
    found = parse_pattern("1x2").group_scores(weight, 1, "sum").reshape(2, 2)  # (block, channel)
    assert found.T.flatten().tolist() == pytest.approx([1.9, 0.3, 0.3, 3.5])


def test_all_tile_patterns_keep_what_they_promise_on_one_weight_layers():
    for spec in SPECS:
        pattern = parse_pattern(spec)
        assert isinstance(pattern, Tiles)
        if pattern.applies((1, 1, 1, 1)) is None:
            assert make_mask(torch.ones(1, 1, 1, 1), pattern, 0.0).all()
