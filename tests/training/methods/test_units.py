"""Units of planned layers: who belongs to which, and which go when the whole network competes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from secateur.errors import SparsityError
from secateur.sparsity import AllocationOptions, filters_first, masks, plan_sparsity
from secateur.training.methods.units import LEAST_KEPT, catch, lowest, prune_to_, units_of


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.Conv2d(6, 10, 3, groups=2),
        nn.ConvTranspose2d(10, 9, 2),
        nn.Linear(9, 7),
        nn.Linear(7, 2),
    )


def units(pattern, sparsity=0.5, remainder="short", model=None):
    model = model or network()
    plan = plan_sparsity(model, sparsity, pattern, base="selected", remainder=remainder, include_first=True)
    return units_of(model, plan, "test"), plan, model


@pytest.mark.parametrize("remainder", ["short", "dense"])
@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "kernel", "4in"])
def test_a_choice_of_units_is_the_mask_of_the_pattern(pattern, remainder):
    found, plan, model = units(pattern, remainder=remainder)
    assert len(found) >= 3
    for unit in found:
        count = len(unit.sizes)
        kept = torch.arange(count) % 3 != 1
        unit.keep_(kept)
        first = filters_first(unit.weight, unit.layer.kind, unit.layer.groups)
        expected = plan.pattern.mask_of(kept, first, unit.layer.groups)
        mask = filters_first(masks(model)[unit.layer.name], unit.layer.kind, unit.layer.groups)
        assert torch.equal(mask, expected)
        assert unit.sizes.sum() == plan.pattern.prunable(first.shape, unit.layer.groups)
        values = torch.rand(count)
        torch.testing.assert_close(unit.mean_of(unit.spread(values, 0.0)).float(), values)


def test_spreading_is_differentiable():
    (unit, *_), _, _ = units("1x4")
    values = torch.rand(len(unit.sizes), requires_grad=True)
    unit.spread(values, 1.0).sum().backward()
    assert torch.equal(values.grad.double(), unit.sizes)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.floats(0.0, 1.0))
def test_single_weights_go_in_exact_number_and_no_layer_dies(seed, share):
    found, _, model = units("unstructured")
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.randint(0, 5, (len(unit.sizes),), generator=generator).double() for unit in found]
    scores[1] -= 10  # one layer is worse than all others
    total = sum(len(score) for score in scores)
    prune_to_(found, scores, int(share * total))
    kept = [masks(model)[unit.layer.name] for unit in found]
    guarded = sum(max(1, math.ceil(LEAST_KEPT * len(score))) for score in scores)
    assert total - sum(int(mask.sum()) for mask in kept) == min(int(share * total), total - guarded)
    assert all(mask.any() for mask in kept)


def test_the_lowest_go_and_equal_ones_in_order():
    found, _, _ = units("unstructured")
    scores = [torch.ones(len(unit.sizes)) for unit in found]
    scores[2][-3:] = 0.5
    kept = lowest(found, scores, 5)
    assert not kept[2][-3:].any() and kept[2][:-3].all() and kept[1].all() and kept[3].all()
    # The first weight of a layer is its guarded one.
    guarded = max(1, math.ceil(LEAST_KEPT * len(scores[0])))
    assert torch.nonzero(~kept[0]).flatten().tolist() == [guarded, guarded + 1]


def test_blocks_of_different_sizes_stay_below_the_number_of_weights():
    found, _, _ = units("1x4")
    scores = [torch.rand(len(unit.sizes)) for unit in found]
    kept = lowest(found, scores, 100)
    gone = sum(float(unit.sizes[~stay].sum()) for unit, stay in zip(found, kept, strict=True))
    assert 100 - max(float(unit.sizes.max()) for unit in found) < gone <= 100


def test_a_layer_computes_with_what_is_put_in_its_place():
    found, _, model = units("unstructured")
    handles = catch(found, lambda number, weight: weight * number)
    assert not model[0].weight.any() and torch.equal(model[1].weight, found[1].weight)
    for handle in handles:
        handle.remove()
    assert torch.equal(model[0].weight, found[0].weight)


def test_no_layer_loses_more_than_its_bound():
    model = network()
    options = AllocationOptions(cap=0.6)
    plan = plan_sparsity(model, 0.5, "unstructured", base="selected", include_first=True, options=options)
    found = units_of(model, plan, "test")
    worst = [torch.full((len(unit.sizes),), float(number)) for number, unit in enumerate(found)]
    shares = [1 - float(kept.float().mean()) for kept in lowest(found, worst, plan.zeros)]
    assert max(shares) <= 0.6 and shares[0] > 0.58


def test_a_level_of_a_single_layer_is_refused_where_all_compete():
    plan = plan_sparsity(network(), 0.5, "unstructured", base="selected", levels={"1": 0.2})
    with pytest.raises(SparsityError, match="1: has a level of its own, but method test lets"):
        units_of(network(), plan, "test")
    assert len(units_of(network(), plan, "test", competing=False)) == len(plan.levels)


def test_fixed_shares_cannot_compete():
    with pytest.raises(SparsityError, match=r"method probmask lets the units .* compete, and 2:4 fixes"):
        model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 2))
        units_of(model, plan_sparsity(model, 0.5, "2:4", base="selected"), "probmask")
