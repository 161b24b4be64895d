"""Allocations: targets met exactly in each base, bounds, and honest refusals."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import RecipeError, SparsityError
from secateur.sparsity import AllocationOptions, Layer, allocate


def layers(*shapes: tuple[int, ...]) -> list[Layer]:
    return [Layer(f"l{i}", "conv" if len(s) > 2 else "linear", s) for i, s in enumerate(shapes)]


SHAPES = st.lists(
    st.tuples(st.integers(1, 64), st.integers(1, 64), st.sampled_from([1, 3, 5]), st.sampled_from([1, 3])),
    min_size=1,
    max_size=8,
)


@settings(deadline=None)
@given(
    SHAPES,
    st.floats(0, 0.98),
    st.sampled_from(["uniform", "erk", "er", "heuristic"]),
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
            allocate(found, sparsity, allocation, base=base, excluded=reasons, options=AllocationOptions(cap=cap))
        return
    if wanted > reachable * (1 - 1e-9):
        return  # on the edge, where rounding decides
    got = allocate(found, sparsity, allocation, base=base, excluded=reasons, options=AllocationOptions(cap=cap))
    assert sum(got.levels[layer.name] * layer.weights for layer in free) == pytest.approx(wanted, abs=1e-5)
    assert got.achieved == pytest.approx(sparsity if counted else 0.0, abs=1e-9)
    assert all(-1e-12 <= level <= cap + 1e-12 for level in got.levels.values())
    assert got.skipped == reasons and set(got.levels) == {layer.name for layer in free}
    assert all(got.levels[name] == pytest.approx(cap) for name in got.capped)


@given(SHAPES, st.floats(0, 0.98), st.floats(0, 0.98), st.sampled_from(["uniform", "erk", "er", "heuristic"]))
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
    got = allocate(found, 0.9, "erk", options=AllocationOptions(cap=0.905))
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
    [
        {"sparsity": 1.0},
        {"sparsity": -0.1},
        {"sparsity": float("nan")},
        {"sparsity": None},
        {"base": "params"},
        {"given": {"l0": 2.0}},
        {"caps": {"l0": -1.0}},
    ],
)
def test_impossible_numbers_are_sentences(options):
    with pytest.raises(SparsityError, match=r"\.$"):
        allocate(layers((4, 4)), **{"sparsity": 0.5, **options})


def test_unknown_allocation_names_the_nearest():
    with pytest.raises(RecipeError, match="Did you mean 'uniform'"):
        allocate(layers((4, 4)), 0.5, "unifrom")


@settings(deadline=None)
@given(SHAPES, st.floats(0, 0.7), st.sampled_from(["uniform", "erk", "heuristic"]), st.data())
def test_no_level_leaves_its_bounds_and_what_they_cut_off_goes_elsewhere(shapes, sparsity, allocation, data):
    found = layers(*shapes)
    caps = {layer.name: data.draw(st.floats(0.3, 1.0)) for layer in found[::2]}
    options = AllocationOptions(cap=0.95, floor=0.1, level_max_factor=1.6, density_min_factor=0.4)
    bound = max(0.0, min(0.9, 1.6 * sparsity, 1 - 0.4 * (1 - sparsity)))
    bounds = {layer.name: min(bound, caps.get(layer.name, 1.0)) for layer in found}
    reachable = sum(bounds[layer.name] * layer.weights for layer in found)
    wanted = sparsity * sum(layer.weights for layer in found)
    if wanted > reachable * (1 - 1e-9):
        return
    got = allocate(found, sparsity, allocation, caps=caps, options=options)
    assert all(-1e-12 <= level <= bounds[name] + 1e-12 for name, level in got.levels.items())
    # a layer of one weight has ln 1 = 0 and stays dense under heuristic
    lost = sum(layer.weights == 1 for layer in found) / sum(layer.weights for layer in found)
    assert got.achieved == pytest.approx(sparsity, abs=1e-9 + lost)


def test_a_refusal_names_every_bound_that_was_set():
    options = AllocationOptions(cap=0.9, floor=0.2, level_max_factor=1.5, density_min_factor=0.5)
    with pytest.raises(SparsityError, match=r"at most 0\.4000 with cap 0\.9, floor 0\.2, level_max_factor 1\.5, den"):
        allocate(layers((10, 10), (10, 10)), 0.6, excluded={"l0": "first"}, options=options)


@pytest.mark.parametrize(
    "options",
    [
        {"cap": 0.0},
        {"cap": float("nan")},
        {"floor": 1.0},
        {"tuning": 1.5},
        {"tolerance": -0.1},
        {"power": -1.0},
        {"power": float("inf")},
        {"level_max_factor": float("nan")},
        {"bound": -1.0},
        {"decay": "cubic"},
    ],
)
def test_options_that_make_no_sense_are_sentences(options):
    with pytest.raises(SparsityError, match=r"\.$"):
        AllocationOptions(**options)
