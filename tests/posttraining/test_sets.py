"""Units of patterns as rows and columns: the same units, in the same order, as the pattern's own."""

import math

import pytest
import torch

from secateur.posttraining.sets import sets_of
from secateur.sparsity import NM, parse_pattern

SPECS = ("unstructured", "1x4", "1x4-fine", "kernel", "4in", "block:2x4x1x1", "block:2x2xkxk", "filter", "channel")


@pytest.mark.parametrize("remainder", ["short", "dense"])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("shape, groups", [((10, 6, 3, 2), 1), ((12, 5, 2, 2), 2), ((9, 7), 1)])
def test_every_unit_of_a_tiled_pattern_is_a_set(spec, remainder, shape, groups):
    pattern = parse_pattern(spec, remainder)
    if pattern.applies(shape, groups):
        pytest.skip("does not apply")
    sets, units = sets_of(pattern, shape, groups), pattern.units(shape, groups)
    blocks, count = len(sets.rows), len(sets.columns)
    assert groups * blocks * count == units
    for unit in range(units):
        kept = torch.arange(units) != unit
        mask = pattern.mask_of(kept, torch.zeros(shape), groups).reshape(groups, -1, math.prod(shape[1:]))
        ours = torch.ones_like(mask)
        rows, columns = sets.rows[unit // count % blocks], sets.columns[unit % count]
        for row in rows[rows >= 0]:
            ours[unit // count // blocks, row, columns[columns >= 0]] = False
        assert torch.equal(mask, ours)
        assert int((~mask).sum()) == int(sets.sizes[unit // count % blocks, unit % count])
    covered = torch.cat([sets.columns[sets.columns >= 0], sets.rest])
    assert covered.sort().values.tolist() == list(range(math.prod(shape[1:])))


@pytest.mark.parametrize("spec, channels", [("2:4", 8), ("1:4", 8), ("2:4/pad", 7), ("2:4/pad", 5)])
def test_groups_of_n_m_lie_along_channels(spec, channels):
    pattern = parse_pattern(spec)
    assert isinstance(pattern, NM)
    sets = sets_of(pattern, (4, channels, 1, 3), 1)
    assert sets.removals * 4 == int(pattern.zeros((4, channels, 1, 3), pattern.fixed_level))
    group_of = sets.group_of.reshape(channels, 3)
    for position in range(3):
        assert len(set(group_of[:4, position].tolist())) == 1
    assert len(group_of[group_of >= 0].unique()) == len(sets.quota)
    assert sets.group_of.reshape(channels, 3)[0].unique().numel() == 3


def test_two_dimensional_n_m_has_no_sets():
    assert sets_of(parse_pattern("2:4-2d"), (8, 8, 1, 1), 1) is None
