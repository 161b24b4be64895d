"""Which units go: shares, MACs, parameters, multiples, minimum, segments, globs; against counting by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.topologies import network
from secateur.channels.groups import ChannelGroup, ChannelGroups, Member, TensorUse
from secateur.channels.plan import make_plan
from secateur.channels.selection import Limits, counter, lowest, select_channels
from secateur.channels.trace import channel_groups
from secateur.errors import SparsityError


def group(name, size, segments=1, frozen=None, readers=("next",)):
    positions = np.arange(size)[:, None]
    members = [Member(f"{name}.weight", 0, "producer", positions, size)]
    members += [Member(f"{reader}.weight", 1, "consumer", positions, size) for reader in readers]
    return ChannelGroup(name, size, tuple(members), np.repeat(np.arange(segments), size // segments), segments, frozen)


def two_layers(a=8, b=12):
    """a (a x 1, 100 positions) -> b (b x a, 10 positions) -> c (5 x b, once)."""
    tensors = {
        "a.weight": TensorUse((a, 1), 100),
        "b.weight": TensorUse((b, a), 10),
        "c.weight": TensorUse((5, b), 1),
        "c.running_mean": TensorUse((5,), 0, parameter=False),
    }
    return ChannelGroups((group("a", a, readers=("b",)), group("b", b, readers=("c",))), tensors)


def scores(groups, seed=0):
    generator = np.random.default_rng(seed)
    return {each.name: generator.random(each.size) for each in groups.free}


def test_the_lowest_scores_go_and_ties_go_by_index():
    found = lowest(group("a", 6), np.array([3.0, 1.0, 2.0, 1.0, 1.0, 0.5]), 3)
    assert found.tolist() == [1, 3, 5]


def test_every_segment_loses_as_many():
    found = lowest(group("a", 6, segments=2), np.array([0.1, 0.2, 0.3, 9.0, 8.0, 7.0]), 4)
    assert found.tolist() == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("size", "segments", "round_to", "minimum", "share", "left"),
    [
        (10, 1, 1, 1, 0.33, 7),  # floor(3.3) go
        (10, 1, 1, 1, 0.99, 1),
        (64, 1, 8, 8, 0.5, 32),
        (64, 1, 8, 8, 0.45, 40),  # 36 would stay: rounded up, never more than asked for
        (60, 1, 8, 8, 0.5, 32),
        (60, 1, 8, 8, 0.1, 56),
        (60, 1, 8, 8, 0.05, 60),  # no multiple of 8 is left, all stay
        (64, 1, 8, 20, 0.9, 24),
        (6, 1, 8, 8, 0.5, 6),
        (12, 4, 1, 1, 0.5, 8),  # floor(1.5) of each segment
        (12, 4, 1, 1, 0.99, 4),
        (24, 2, 4, 4, 0.6, 12),
        (24, 3, 4, 4, 0.6, 12),  # multiples of 4 and of 3
    ],
)
def test_limits(size, segments, round_to, minimum, share, left):
    each = group("a", size, segments)
    assert size - Limits(round_to, minimum).removed(each, share) == left


def test_uniform_channels_take_the_share_of_every_group():
    groups = two_layers()
    found = select_channels(groups, scores(groups), 0.5)
    assert {name: len(units) for name, units in found.removed.items()} == {"a": 4, "b": 6}


def test_global_channels_take_the_lowest_anywhere():
    groups = two_layers()
    values = {"a": np.arange(8.0), "b": np.arange(12.0) + 6}
    found = select_channels(groups, values, 0.4, scope="global")
    assert {name: units.tolist() for name, units in found.removed.items()} == {"a": list(range(7)), "b": [0]}
    with pytest.raises(SparsityError, match="unknown scope 'local'"):
        select_channels(groups, values, 0.4, scope="local")


@pytest.mark.parametrize("base", ["macs", "parameters"])
@pytest.mark.parametrize("scope", ["uniform", "global"])
@pytest.mark.parametrize("target", [0.1, 0.5, 0.8])
def test_the_smallest_share_that_meets_the_target(base, scope, target):
    groups = two_layers(16, 24)
    values = scores(groups)
    found = select_channels(groups, values, target, base=base, scope=scope)
    plan = make_plan(groups, found.removed, target=target, base=base, criterion="given")
    before, after = (getattr(plan, f"{base}_{when}") for when in ("before", "after"))
    assert after <= (1 - target) * before
    # One channel less anywhere, in the order in which they go, and the target is missed.
    least = min(
        getattr(make_plan(groups, other, target=0, base=base, criterion=""), f"{base}_after")
        for other in next_smaller(groups, values, found.removed, scope)
    )
    assert least > (1 - target) * before


def next_smaller(groups, values, removed, scope):
    if scope == "global":
        name, unit = max(
            ((name, unit) for name, units in removed.items() for unit in units), key=lambda at: values[at[0]][at[1]]
        )
        yield removed | {name: np.array([u for u in removed[name] if u != unit])}
        return
    share = max(len(units) / groups[name].size for name, units in removed.items())
    limits = Limits(1, 1)
    smaller = next(
        s for s in np.arange(share, 0, -1e-3) if any(
            limits.removed(g, s) < len(removed.get(g.name, ())) for g in groups.free)
    )  # fmt: skip
    yield {g.name: lowest(g, values[g.name], limits.removed(g, smaller)) for g in groups.free}


def test_a_target_out_of_reach_says_what_is_possible():
    groups = two_layers()
    with pytest.raises(SparsityError, match=r"99 % of the macs cannot be removed: .* 93\.7 % of 1,820 would be gone"):
        select_channels(groups, scores(groups), 0.99, base="macs")


def test_ratios_and_exclusions_by_glob():
    groups = two_layers()
    found = select_channels(groups, scores(groups), 0.5, ratios={"a*": 0.25}, exclude=["module.b"])
    assert {name: len(units) for name, units in found.removed.items()} == {"a": 2}
    assert found.reasons == {"b": "excluded by 'module.b'"}
    with pytest.raises(SparsityError, match="unknown layer or glob 'x'"):
        select_channels(groups, scores(groups), 0.5, exclude=["x"])
    with pytest.raises(SparsityError, match=r"below 1, not 1\.0"):
        select_channels(groups, scores(groups), 0.5, ratios={"a": 1.0})


def test_ratios_count_towards_the_target():
    groups = two_layers(16, 24)
    found = select_channels(groups, scores(groups), 0.5, base="macs", ratios={"a": 0.75})
    plan = make_plan(groups, found.removed, target=0.5, base="macs", criterion="given")
    assert len(found.removed["a"]) == 12 and plan.macs_after <= 0.5 * plan.macs_before
    assert "b" not in found.removed


def test_a_frozen_group_stays_whole():
    groups = ChannelGroups((group("a", 8, frozen="output of the network"), group("b", 8)))
    assert set(select_channels(groups, {"b": np.arange(8.0)}, 0.5).removed) == {"b"}


def test_groups_that_cannot_shrink_are_told():
    groups = ChannelGroups((group("a", 4, segments=4), group("b", 6), group("c", 2), group("d", 16)))
    found = select_channels(groups, scores(groups), 0.5, round_to=8)
    assert set(found.removed) == {"d"}
    assert found.reasons["a"] == "one unit is left in every segment, nothing can go"
    assert found.reasons["b"] == "at least 6 channels stay"


@pytest.mark.parametrize("options", [
    {"target": 1.0}, {"target": -0.1}, {"base": "flops"}, {"round_to": 0}, {"min_channels": 0},
])  # fmt: skip
def test_what_makes_no_sense_is_refused(options):
    groups = two_layers()
    with pytest.raises(SparsityError):
        select_channels(groups, scores(groups), **({"target": 0.5} | options))


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(1, 64),
    segments=st.sampled_from([1, 2, 3, 4]),
    round_to=st.sampled_from([1, 2, 4, 8]),
    minimum=st.integers(1, 20),
    share=st.floats(0, 1),
)
def test_limits_hold_for_any_share(size, segments, round_to, minimum, share):
    each = group("a", size * segments, segments)
    limits = Limits(round_to, minimum)
    gone = limits.removed(each, share)
    left = each.size - gone
    assert left >= min(minimum, each.size) and left >= segments
    assert gone % segments == 0
    assert gone <= share * each.size + 1e-6 * each.size
    assert gone == 0 or left % round_to == 0


@pytest.mark.parametrize("name", ["concat", "depthwise", "flatten", "grouped", "two_concats_added", "pixel_shuffle"])
def test_counting_agrees_with_the_plan(name):
    groups = channel_groups(network(name), (3, 8, 8))
    values = scores(groups)
    for share, scope in itertools.product((0.2, 0.5, 0.9), ("uniform", "global")):
        found = select_channels(groups, values, share, scope=scope)
        plan = make_plan(groups, found.removed, target=share, base="channels", criterion="given")
        counted = counter(groups)({each: len(units) for each, units in found.removed.items()})
        assert counted == (plan.parameters_after, plan.macs_after)


@pytest.mark.parametrize("base", ["channels", "macs", "parameters"])
@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_target_where_nothing_can_go_is_no_success(base, scope):
    frozen = ChannelGroups((group("a", 8, frozen="output of the network"),), {"a.weight": TensorUse((8, 1), 100)})
    with pytest.raises(SparsityError, match=r"no channel may go \(a: output of the network\)"):
        select_channels(frozen, {}, 0.5, base=base, scope=scope)
    with pytest.raises(SparsityError, match="there is no layer whose channels"):
        select_channels(ChannelGroups(()), {}, 0.5, base=base, scope=scope)
    groups = two_layers()
    with pytest.raises(SparsityError, match="a: excluded by 'a'; b: at least 12 channels stay"):
        select_channels(groups, scores(groups), 0.5, base=base, scope=scope, exclude=["a"], round_to=16)
    assert not select_channels(frozen, {}, 0.0, base=base, scope=scope).removed


def test_share_too_small_for_a_step_is_no_error():
    groups = two_layers()
    assert not select_channels(groups, scores(groups), 0.05).removed
