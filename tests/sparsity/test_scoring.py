"""Options of scoring: folded norms, noise, drawn units; what is said when something is missing."""

import pytest
import torch
from torch import nn

from secateur.errors import RecipeError, SparsityError
from secateur.sparsity import (
    Scoring,
    Sparsifier,
    fold_masks_,
    masks,
    parse_pattern,
    plan_sparsity,
    sparsify_,
    stored_weight,
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1))
    model.preprocessing = type("Preprocessing", (), {"input_size": (3, 8, 8)})()
    return model


def removed_filters(scoring: Scoring, model: nn.Sequential, seed: int = 0, level: float = 0.5) -> list[int]:
    plan = plan_sparsity(model, level, "filter", base="selected", include_first=True, exclude=["3"])
    Sparsifier(model, plan, criterion=scoring, seed=seed).update_(0)
    return torch.nonzero(~masks(model)["0"].flatten(1).any(1)).flatten().tolist()


def test_folding_the_norm_changes_what_is_small():
    model = network()
    nn.init.ones_(model[0].weight)
    model[1].weight.data = torch.tensor([1.0, -2, 3, -4, 5, 6, 7, 8])
    model[1].running_var[:] = torch.tensor([0.01, 100, 1, 1, 1, 1, 1, 1])
    assert removed_filters(Scoring(), model) == [0, 1, 2, 3]  # all alike: in index order
    scales = [10, 0.2, 3, 4, 5, 6, 7, 8]
    wanted = sorted(sorted(range(8), key=scales.__getitem__)[:4])
    assert removed_filters(Scoring(fold_norm=True), model) == wanted == [1, 2, 3, 4]


def test_the_norm_is_read_when_masks_are_chosen():
    model = network()
    nn.init.ones_(model[0].weight)
    plan = plan_sparsity(model, 0.5, "filter", base="selected", include_first=True, exclude=["3"])
    sparsifier = Sparsifier(model, plan, criterion=Scoring("bn_scale"))
    model[1].weight.data = torch.arange(8.0) - 3.9  # trained in between
    sparsifier.update_(0)
    assert torch.nonzero(~masks(model)["0"].flatten(1).any(1)).flatten().tolist() == [2, 3, 4, 5]


def test_bn_scale_names_the_layer_without_a_norm():
    with pytest.raises(SparsityError, match=r"3: no batch norm follows it"):
        sparsify_(network(), 0.5, "filter", "bn_scale", base="selected")


def test_noise_changes_the_ranking_with_its_probability():
    plain = removed_filters(Scoring(), network())
    assert removed_filters(Scoring(noise=0.0), network(), seed=1) == plain
    changed = [removed_filters(Scoring(noise=1.0), network(), seed) for seed in range(8)]
    assert all(len(found) == 4 for found in changed)
    assert sum(found != plain for found in changed) >= 6
    assert changed[0] == removed_filters(Scoring(noise=1.0), network(), 0)
    some = [removed_filters(Scoring(noise=0.3), network(), seed) != plain for seed in range(40)]
    assert 2 <= sum(some) <= 24  # binomial(40, .3): mean 12, four standard deviations


def test_noise_reaches_the_groups_of_n_m():
    model = network()
    plan = plan_sparsity(model, None, "2:4", base="selected")
    Sparsifier(model, plan, criterion=Scoring(noise=1.0)).update_(0)
    noisy = masks(model)["3"].clone()
    Sparsifier(model, plan).update_(0)
    assert not torch.equal(noisy, masks(model)["3"])
    assert noisy.sum() == masks(model)["3"].sum()


@pytest.mark.parametrize("level", [0.2, 0.8])
def test_random_units_of_any_size_are_as_likely(level):
    # Nine filters in blocks of four: the last block of a column has one weight, the others four.
    model = nn.Sequential(nn.Linear(32, 9, bias=False))
    plan = plan_sparsity(
        model, level, "1x4", base="selected", include_first=True, include_classifier=True, criterion="random"
    )
    gone = torch.zeros(9)
    for seed in range(200):
        Sparsifier(model, plan, criterion=Scoring("random"), seed=seed).update_(0)
        gone += (~masks(model)["0"]).float().mean(1)
    # Each of 96 units goes with its level; the mean over 32 columns and 200 draws is that to about .005.
    assert float((gone / 200 - level).abs().max()) < 0.03


def test_bernoulli_draws_every_unit_by_itself():
    counts, hits = [], torch.zeros(8)
    for seed in range(200):
        gone = removed_filters(Scoring("bernoulli"), network(), seed)
        counts.append(len(gone))
        hits[gone] += 1
    # binomial(8, .5) per draw; binomial(200, .5) per filter: five standard deviations are 35
    assert len(set(counts)) > 4 and max(counts) <= 7
    assert float((hits - 100).abs().max()) < 36


def test_bernoulli_masks_are_nested_in_the_level_and_leave_something():
    for seed in range(10):
        low = set(removed_filters(Scoring("bernoulli"), network(), seed, 0.3))
        high = set(removed_filters(Scoring("bernoulli"), network(), seed, 0.98))
        assert low <= high and len(high) < 8


def test_bernoulli_divides_what_stays_by_its_share():
    model, dense = network(), network()
    plan = plan_sparsity(model, 0.5, "filter", base="selected", include_first=True)
    sparsifier = Sparsifier(model, plan, criterion=Scoring("bernoulli"))
    sparsifier.update_(0)
    found = masks(model)
    for _ in range(2):  # the share does not pile up where masks are chosen again
        for name, mask in found.items():
            wanted = dense.get_submodule(name).weight * mask / mask.float().mean()
            assert torch.allclose(model.get_submodule(name).weight, wanted) and 0 < mask.float().mean() < 1
        sparsifier.choose_(0)
    sparsifier.lift_()
    assert torch.equal(model[0].weight, dense[0].weight)
    sparsifier.choose_(0)
    share = masks(model)["0"].float().mean()
    kept = masks(model)["0"].clone()
    before = model[0].weight.clone()
    sparsifier.settle_()
    assert torch.equal(model[0].weight, before) and torch.equal(stored_weight(model[0]) * kept, before)
    fold_masks_(model)
    assert torch.allclose(model[0].weight, dense[0].weight * kept / share)


def test_bernoulli_goes_on_from_its_state():
    def sparsifier(model: nn.Module) -> Sparsifier:
        return Sparsifier(model, plan_sparsity(model, 0.5, "filter", base="selected"), criterion=Scoring("bernoulli"))

    first, second, image = network().eval(), network().eval(), torch.randn(1, 3, 8, 8)
    before = sparsifier(first)
    for change in (lambda: before.update_(0), before.lift_):
        change()
        after = sparsifier(second)
        second.load_state_dict(first.state_dict())
        assert torch.equal(first(image), second(image))
        after.choose_(0)


def test_unknown_criteria_and_impossible_noise_are_refused():
    with pytest.raises(RecipeError, match="Did you mean 'fpgm'"):
        Scoring("fpgn")
    with pytest.raises(SparsityError, match="probability from 0 to 1"):
        Scoring(noise=1.5)
    with pytest.raises(SparsityError, match="scores whole filters"):
        Scoring("nuclear").check(parse_pattern("kernel"))


def test_needs_of_options():
    assert Scoring().needs == frozenset()
    assert Scoring("taylor", fold_norm=True).needs == {"gradients", "norm"}


def test_sparsify_takes_options_of_scoring():
    model, other = network(), network()
    sparsify_(model, 0.5, "filter", Scoring("l2", fold_norm=True), base="selected", include_first=True)
    plan = plan_sparsity(other, 0.5, "filter", "l2", base="selected", include_first=True)
    Sparsifier(other, plan, criterion=Scoring("l2", fold_norm=True)).update_(0)
    assert plan.criterion == "l2" and torch.equal(masks(model)["0"], masks(other)["0"])
