"""Global magnitude and its normalised forms: the published threshold, exact counts, caps, blocks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from secateur.errors import SparsityError
from secateur.sparsity import AllocationOptions, BlockOf, allocate, plan_sparsity

NAMES = ("global_magnitude", "l1_normalised", "l2_normalised", "lamp")


def random_network(seed: int, count: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sides = torch.randint(1, 40, (count, 2), generator=generator).tolist()
    scales = torch.rand(count, generator=generator).add(0.01).tolist()
    return {
        f"l{i}": scale * torch.randn(tuple(side), generator=generator)
        for i, (side, scale) in enumerate(zip(sides, scales, strict=True))
    }


def test_the_published_threshold_removes_six_of_ten(made_up):
    """ALGORITHMS.md L4: .1 .. 1.0 at s .5, threshold .6; ours removes the five that were asked for."""
    facts = made_up({"a": torch.tensor([[0.1, 0.3, 0.5, 0.7, 0.9]]), "b": torch.tensor([[0.2, 0.4, 0.6, 0.8, 1.0]])})
    published = allocate(facts.layers, 0.5, "global_magnitude", ties="threshold", facts=facts)
    assert published.levels == pytest.approx({"a": 0.6, "b": 0.6})
    assert allocate(facts.layers, 0.5, "global_magnitude", facts=facts).levels == pytest.approx({"a": 0.6, "b": 0.4})


@pytest.mark.parametrize("share", [0.3337, 0.4337, 0.5337])
def test_no_weight_is_lost_between_counts_and_levels_of_large_layers(share):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4096, 2001, bias=False), nn.Linear(2001, 1999, bias=False))
    options = {"allocation": "global_magnitude", "base": "selected", "include_classifier": True}
    total = sum(parameter.numel() for parameter in model.parameters())
    assert plan_sparsity(model, share, "unstructured", **options).zeros == int(share * total)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0, 0.98), st.sampled_from(NAMES[:3]))
def test_the_published_threshold_on_any_network(made_up, seed, count, sparsity, allocation):
    """threshold = sorted[int(s N)], keep what is strictly greater."""
    facts = made_up(random_network(seed, count))
    powers = {"global_magnitude": None, "l1_normalised": 1, "l2_normalised": 2}
    scores = {}
    for name, weight in facts.weights.items():
        length = 1.0 if powers[allocation] is None else float(torch.norm(weight.double(), p=powers[allocation]))
        scores[name] = (weight.abs() / length).numpy()
    everything = np.sort(np.concatenate([score.ravel() for score in scores.values()]))
    wanted = sparsity * len(everything)
    if abs(wanted - round(wanted)) < 1e-5:
        return  # int(s N) in binary fractions falls to either side
    threshold = everything[int(wanted)]
    expected = {name: float((score <= threshold).mean()) for name, score in scores.items()}
    options = AllocationOptions(cap=1.0)
    found = allocate(facts.layers, sparsity, allocation, ties="threshold", facts=facts, options=options)
    assert found.levels == pytest.approx(expected)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0, 0.9), st.sampled_from(NAMES), st.floats(0.5, 1.0))
def test_the_total_is_exact_and_no_layer_passes_its_bound(made_up, seed, count, sparsity, allocation, cap):
    facts = made_up(random_network(seed, count))
    sizes = {layer.name: layer.weights for layer in facts.layers}
    options = AllocationOptions(cap=cap)
    whole_groups = sum(int(cap * n + 1e-6) for n in sizes.values())
    wanted = sparsity * sum(sizes.values())
    if wanted > cap * sum(sizes.values()):
        return
    found = allocate(facts.layers, sparsity, allocation, facts=facts, options=options)
    removed = sum(found.levels[name] * n for name, n in sizes.items())
    assert removed == pytest.approx(min(int(wanted + 1e-6), whole_groups), abs=1e-6)
    assert all(-1e-12 <= level <= cap + 1e-6 for level in found.levels.values())


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(0, 0.95), st.floats(0, 0.95), st.sampled_from(NAMES))
def test_levels_are_monotone_in_the_target(made_up, seed, one, other, allocation):
    weights = random_network(seed, 4)
    weights["tied"] = torch.ones(7, 3)  # equal weights must not change places
    facts = made_up(weights)
    low, high = (allocate(facts.layers, s, allocation, facts=facts).levels for s in sorted((one, other)))
    assert all(low[name] <= high[name] + 1e-9 for name in low)


def test_a_capped_layer_s_excess_goes_to_the_others_as_in_v2(made_up):
    """One layer of tiny weights: the cap holds it at .6, and its other 40 weights are taken from the rest."""
    generator = torch.Generator().manual_seed(0)
    facts = made_up(
        {
            "tiny": 1e-3 * torch.rand(10, 10, generator=generator),
            "a": torch.rand(10, 10, generator=generator),
            "b": 1 + torch.rand(10, 10, generator=generator),
            "first": torch.zeros(10, 10),
        }
    )
    found = allocate(
        facts.layers,
        0.3,
        "global_magnitude",
        facts=facts,
        excluded={"first": "no-prune list"},
        options=AllocationOptions(cap=0.6),
    )
    # 120 of all 400 weights, the excluded ones counted: 60 from tiny, and 60 from a, the smaller of the others.
    assert found.levels == pytest.approx({"tiny": 0.6, "a": 0.6, "b": 0.0})
    assert found.capped == ("tiny", "a") and found.achieved == pytest.approx(0.3)


def test_given_layers_are_untouched_and_out_of_the_threshold(made_up):
    facts = made_up({"a": torch.arange(1, 11.0)[None], "b": torch.full((1, 10), 1e-9)})
    found = allocate(facts.layers, 0.5, "global_magnitude", facts=facts, given={"b": 0.1})
    assert found.levels == pytest.approx({"a": 0.5, "b": 0.1})


def test_with_blocks_the_block_decides(made_up):
    """1x2 blocks: one large weight saves its small neighbour; elements alone would have gone the other way."""
    blocks = torch.tensor([[0.0, 5.0], [10.0, 5.0]])  # columns are blocks of two filters: means 5 and 5
    single = torch.tensor([[0.1, 4.0], [0.1, 4.0]])  # means .1 and 4
    facts = made_up({"a": blocks, "b": single}, pattern=BlockOf(2))
    capped = allocate(facts.layers, 0.5, "global_magnitude", facts=facts)
    assert capped.levels == pytest.approx({"a": 0.5, "b": 0.5})  # .99 of two blocks is one block
    loose = allocate(facts.layers, 0.5, "global_magnitude", facts=facts, options=AllocationOptions(cap=1.0))
    assert loose.levels == pytest.approx({"a": 0.0, "b": 1.0})


def test_damaged_weights_are_named(made_up):
    facts = made_up({"a": torch.tensor([[1.0, float("nan")]])})
    with pytest.raises(SparsityError, match=r"^a: the weights hold values that are not finite"):
        allocate(facts.layers, 0.5, "global_magnitude", facts=facts)


def test_a_layer_of_zeros_goes_first(made_up):
    facts = made_up({"zeros": torch.zeros(10, 10), "a": torch.rand(10, 10) + 1})
    for allocation in NAMES:
        options = AllocationOptions(cap=1.0)
        assert allocate(facts.layers, 0.5, allocation, facts=facts, options=options).levels["zeros"] == 1.0


def test_without_weights_it_says_what_is_missing(made_up):
    with pytest.raises(SparsityError, match="global_magnitude looks into the network"):
        allocate(made_up({"a": torch.ones(4, 4)}).layers, 0.5, "global_magnitude")
