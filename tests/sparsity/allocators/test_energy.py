"""Energy levels: the toy with known figures, our own decay, the search, and the published tables' sums."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import SparsityError
from secateur.sparsity import AllocationOptions, allocate
from secateur.sparsity.allocators.energy import depth_shares, energy_percent, level_at

TOY = torch.arange(1, 11.0)


@pytest.mark.parametrize(
    ("theta", "level"), [(0.1, 0), (0.5, 0.1), (5, 0.3), (10, 0.4), (25, 0.6), (50, 0.7), (90, 0.9)]
)
def test_the_toy_as_published(theta, level):
    """ALGORITHMS.md L11."""
    assert level_at(energy_percent(TOY[torch.randperm(10)]), theta) == level


def test_edges_of_the_threshold():
    percent = energy_percent(TOY)
    assert level_at(percent, 0.0) == 0.0
    assert level_at(percent, float(percent[0])) == 0.0  # at least: the first weight stays
    assert level_at(percent, 1e9) == 0.99
    assert level_at(energy_percent(torch.ones(10_000)), 1e9) == 0.99


def test_own_decay_as_published():
    """ALGORITHMS.md L11: Theta 10, t .5, G 4."""
    shares = depth_shares({f"g{g}": g for g in range(5)}, 0.5)
    assert [10 * share for share in shares.values()] == [5.0, 6.25, 7.5, 8.75, 10.0]


def test_groups_are_ranks_and_the_geometric_form_falls_by_equal_factors():
    shares = depth_shares({"a": 1, "b": 5, "c": 7, "d": 7}, 0.75, "geometric")
    assert shares == pytest.approx({"a": 0.25, "b": 0.5, "c": 1.0, "d": 1.0})
    assert depth_shares({"a": 3, "b": 3}, 0.9) == {"a": 1.0, "b": 1.0}
    assert depth_shares({}, 0.5) == {}


def network(made_up, seed: int, layers: int, halvings: bool = True):
    generator = torch.Generator().manual_seed(seed)
    sides = torch.randint(4, 16, (layers, 2), generator=generator).tolist()
    weights = {f"c{i}": torch.randn(*side, 3, 3, generator=generator) for i, side in enumerate(sides)}
    weights["fc"] = torch.randn(20, 30, generator=generator)
    return made_up(weights, {f"c{i}": i // 2 for i in range(layers)} if halvings else {})


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.floats(0.05, 0.95),
    st.floats(0, 0.5),
    st.sampled_from(["linear", "geometric"]),
)
def test_the_total_is_within_the_tolerance(made_up, seed, count, target, tuning, decay):
    facts = network(made_up, seed, count)
    options = AllocationOptions(tuning=tuning, decay=decay, tolerance=0.015)
    found = allocate(facts.layers, target, "energy", facts=facts, options=options)
    # the step of one layer is a hundredth of its weights, or one weight
    assert abs(found.achieved - target) <= 0.015
    assert all(0 <= level <= 0.99 and level == round(level, 2) for level in found.levels.values())
    assert found.trials[0].setting == 10.0
    assert found.trials[-1].achieved == pytest.approx(found.achieved)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.05, 0.9), st.floats(0.05, 0.9))
def test_levels_are_monotone_in_the_target_up_to_the_tolerance(made_up, seed, one, other):
    facts = network(made_up, seed, 4)
    low, high = sorted((one, other))
    options = AllocationOptions(tolerance=0.005)
    less, more = (allocate(facts.layers, s, "energy", facts=facts, options=options) for s in (low, high))
    if high - low > 0.01:
        assert all(less.levels[name] <= more.levels[name] for name in less.levels)


def test_early_layers_lose_less_and_the_deepest_as_much_as_the_classifier(made_up):
    weight = torch.randn(32, 32, 3, 3, generator=torch.Generator().manual_seed(0))
    facts = made_up({"early": weight, "late": weight, "fc": weight.reshape(32, -1)}, {"early": 0, "late": 3})
    found = allocate(facts.layers, 0.5, "energy", facts=facts).levels
    assert found["early"] < found["late"] == found["fc"]
    flat = allocate(facts.layers, 0.5, "energy", facts=facts, options=AllocationOptions(tuning=0.0)).levels
    assert flat["early"] == flat["late"] == flat["fc"] == 0.5


def test_what_the_cap_cuts_off_is_taken_from_the_others(made_up):
    facts = network(made_up, 3, 4)
    options = AllocationOptions(cap=0.55, floor=0.4)
    found = allocate(facts.layers, 0.3, "energy", facts=facts, options=options, caps={"c0": 0.2})
    assert found.levels["c0"] == 0.2 and max(found.levels.values()) <= 0.55
    assert found.achieved == pytest.approx(0.3, abs=0.002)


def test_excluded_layers_stay_dense_and_the_others_make_up_for_them(made_up):
    facts = network(made_up, 1, 4)
    found = allocate(facts.layers, 0.4, "energy", facts=facts, excluded={"c1": "depthwise"})
    assert "c1" not in found.levels and found.achieved == pytest.approx(0.4, abs=0.002)


def test_a_decay_that_spares_too_much_is_refused(made_up):
    facts = network(made_up, 2, 6)
    with pytest.raises(SparsityError, match=r"energy gives at most 0\.\d{4} of the weights counted with tuning 1"):
        allocate(facts.layers, 0.95, "energy", facts=facts, options=AllocationOptions(tuning=1.0))


def test_a_network_too_coarse_for_the_tolerance_gets_the_nearest_total(made_up):
    facts = made_up({"a": TOY[None]}, {})
    found = allocate(facts.layers, 0.33, "energy", facts=facts)
    assert found.levels == {"a": 0.3}
    assert min(trial.achieved for trial in found.trials) >= 0 and len(found.trials) < 60


def test_weights_of_zero_have_no_energy_to_lose(made_up):
    facts = made_up({"zeros": torch.zeros(10, 10), "a": torch.randn(100, 100)})
    found = allocate(facts.layers, 0.5, "energy", facts=facts)
    assert found.levels["zeros"] == 0.99 and math.isclose(found.achieved, 0.5, abs_tol=0.005)
