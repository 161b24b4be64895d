"""Allocations: ERK as published, targets met exactly in each base, caps, and honest refusals."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import RecipeError, SparsityError
from secateur.sparsity import Layer, allocate, layers_of


def layers(*shapes: tuple[int, ...]) -> list[Layer]:
    return [Layer(f"l{i}", "conv" if len(s) > 2 else "linear", s) for i, s in enumerate(shapes)]


def by_group(levels: dict[str, float]) -> dict[str, float]:
    return {name: round(level, 4) for name, level in levels.items()}


def test_erk_with_scale_1_as_published(resnet):
    """ALGORITHMS.md L5."""
    found = allocate(layers_of(resnet(18)), 0.5, "erk", scale=1.0)
    levels = by_group(found.levels)
    dense = [name for name, level in levels.items() if level == 0]
    assert len(dense) == 14
    assert {"conv1", "fc", "layer3.0.conv1", "layer3.0.downsample.0", "layer4.0.downsample.0"} <= set(dense)
    assert all(levels[name] == 0 for name in levels if name.startswith(("layer1", "layer2")))
    assert [levels[f"layer3.{n}"] for n in ("0.conv2", "1.conv1", "1.conv2")] == [0.3212] * 3
    assert levels["layer4.0.conv1"] == 0.4929
    assert [levels[f"layer4.{n}"] for n in ("0.conv2", "1.conv1", "1.conv2")] == [0.6626] * 3
    assert found.achieved == pytest.approx(0.5, abs=1e-12)


def test_erk_with_scale_one_half_as_published(resnet):
    """ALGORITHMS.md L5."""
    found = allocate(layers_of(resnet(18)), 0.5, "erk", scale=0.5)
    levels = by_group(found.levels)
    dense = [name for name, level in levels.items() if level == 0]
    assert len(dense) == 9
    assert {"conv1", "fc"} <= set(dense) and sum("downsample" in name for name in dense) == 3
    assert levels["layer2.0.conv1"] == 0.0178
    assert [levels[f"layer2.{n}"] for n in ("0.conv2", "1.conv1", "1.conv2")] == [0.2011] * 3
    assert levels["layer3.0.conv1"] == 0.3108
    assert [levels[f"layer3.{n}"] for n in ("0.conv2", "1.conv1", "1.conv2")] == [0.4383] * 3
    assert levels["layer4.0.conv1"] == 0.5145
    assert [levels[f"layer4.{n}"] for n in ("0.conv2", "1.conv1", "1.conv2")] == [0.6040] * 3
    assert found.achieved == pytest.approx(0.5, abs=1e-12)


def erk_by_the_book(layers: list[Layer], sparsity: float, scale: float) -> dict[str, float]:
    """The loop of ALGORITHMS.md E2: mark layers dense until no density exceeds one."""
    p = {x.name: (sum(x.shape) / math.prod(x.shape)) ** scale for x in layers}
    dense: set[str] = set()
    while True:
        kept = sum(x.weights - sparsity * x.weights for x in layers if x.name not in dense)
        kept -= sum(sparsity * x.weights for x in layers if x.name in dense)
        eps = kept / sum(p[x.name] * x.weights for x in layers if x.name not in dense)
        most = max(p[x.name] for x in layers if x.name not in dense)
        if eps * most <= 1:
            return {x.name: 0.0 if x.name in dense else 1 - eps * p[x.name] for x in layers}
        dense |= {x.name for x in layers if p[x.name] == most}


SHAPES = st.lists(
    st.tuples(st.integers(1, 64), st.integers(1, 64), st.sampled_from([1, 3, 5]), st.sampled_from([1, 3])),
    min_size=1,
    max_size=8,
)


@given(SHAPES, st.floats(0.05, 0.95), st.sampled_from([0.5, 1.0]))
def test_erk_is_the_published_loop_where_no_cap_bites(shapes, sparsity, scale):
    found = layers(*shapes)
    expected = erk_by_the_book(found, sparsity, scale)
    assert allocate(found, sparsity, "erk", scale=scale, cap=1.0).levels == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(
    SHAPES,
    st.floats(0, 0.98),
    st.sampled_from(["uniform", "erk"]),
    st.sampled_from(["conv_linear", "selected"]),
    st.floats(0.5, 1.0),
    st.integers(0, 3),
)
def test_the_target_is_met_or_refused(shapes, sparsity, allocation, base, cap, excluded):
    found = layers(*shapes)
    reasons = {layer.name: "first" for layer in found[:excluded]}
    free = [layer for layer in found if layer.name not in reasons]
    counted = found if base == "conv_linear" else free
    wanted = sparsity * sum(layer.weights for layer in counted)
    reachable = cap * sum(layer.weights for layer in free)
    if wanted > reachable * (1 + 1e-9):
        with pytest.raises(SparsityError, match="out of reach"):
            allocate(found, sparsity, allocation, base=base, excluded=reasons, cap=cap)
        return
    if wanted > reachable * (1 - 1e-9):
        return  # on the edge, where rounding decides
    got = allocate(found, sparsity, allocation, base=base, excluded=reasons, cap=cap)
    assert sum(got.levels[layer.name] * layer.weights for layer in free) == pytest.approx(wanted, abs=1e-5)
    assert got.achieved == pytest.approx(sparsity if counted else 0.0, abs=1e-9)
    assert all(-1e-12 <= level <= cap + 1e-12 for level in got.levels.values())
    assert got.skipped == reasons and set(got.levels) == {layer.name for layer in free}
    assert all(got.levels[name] == pytest.approx(cap) for name in got.capped)


@given(SHAPES, st.floats(0, 0.98), st.floats(0, 0.98), st.sampled_from(["uniform", "erk"]))
def test_levels_are_monotone_in_the_target(shapes, one, other, allocation):
    low, high = sorted((one, other))
    less = allocate(layers(*shapes), low, allocation).levels
    more = allocate(layers(*shapes), high, allocation).levels
    assert all(less[name] <= more[name] + 1e-9 for name in less)


def test_excluded_layers_make_the_others_work_harder():
    found = layers((10, 10), (30, 30))
    got = allocate(found, 0.45, excluded={"l0": "first convolution"})
    assert got.levels == pytest.approx({"l1": 0.5})
    assert allocate(found, 0.45, base="selected", excluded={"l0": "first"}).levels == pytest.approx({"l1": 0.45})


def test_what_the_cap_cuts_off_is_taken_from_the_others():
    # ERK at 90 % wants .987 of the large layer; a cap of .92 leaves 800 weights to the small ones.
    found = layers((200, 200), (20, 20), (20, 20))
    free = allocate(found, 0.9, "erk")
    assert free.capped == () and free.levels["l0"] > 0.9
    got = allocate(found, 0.9, "erk", cap=0.905)
    assert got.capped == ("l0",) and got.levels["l0"] == pytest.approx(0.905)
    assert got.levels["l1"] > free.levels["l1"]
    assert got.achieved == pytest.approx(0.9, abs=1e-12)


def test_a_target_out_of_reach_says_how_far_one_can_go_and_how():
    with pytest.raises(SparsityError) as error:
        allocate(layers((10, 10), (30, 30)), 0.9, excluded={"l0": "classifier"})
    sentence = str(error.value)
    assert "at most 0.8910 with cap 0.99" in sentence
    assert "l0 (100: classifier)" in sentence and "base selected" in sentence


def test_given_levels_stay_out_of_both_sums():
    found = layers((10, 10), (20, 20), (30, 30))
    got = allocate(found, 0.5, given={"l2": 0.1})
    assert got.levels == pytest.approx({"l0": 0.5, "l1": 0.5, "l2": 0.1})
    assert got.achieved == pytest.approx((250 + 90) / 1400)


def test_weights_out_of_a_pattern_s_reach_are_made_up_for():
    got = allocate(layers((10, 10), (10, 10)), 0.5, prunable={"l0": 80})
    assert got.levels == pytest.approx({"l0": 100 / 180, "l1": 100 / 180})
    assert got.achieved == pytest.approx(0.5)


@pytest.mark.parametrize(
    "options",
    [{"sparsity": 1.0}, {"sparsity": -0.1}, {"cap": 0.0}, {"base": "params"}, {"given": {"l0": 2.0}}],
)
def test_impossible_numbers_are_sentences(options):
    with pytest.raises(SparsityError, match=r"\.$"):
        allocate(layers((4, 4)), **{"sparsity": 0.5, **options})


def test_unknown_allocation_names_the_nearest():
    with pytest.raises(RecipeError, match="Did you mean 'uniform'"):
        allocate(layers((4, 4)), 0.5, "unifrom")
