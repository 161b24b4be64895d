"""ERK as published, and as the loop in which it is usually written."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.sparsity import AllocationOptions, Layer, allocate, layers_of


def layers(*shapes: tuple[int, ...]) -> list[Layer]:
    return [Layer(f"l{i}", "conv" if len(s) > 2 else "linear", s) for i, s in enumerate(shapes)]


def by_group(levels: dict[str, float]) -> dict[str, float]:
    return {name: round(level, 4) for name, level in levels.items()}


def test_erk_with_power_1_as_published(resnet):
    """ALGORITHMS.md L5."""
    found = allocate(layers_of(resnet(18)), 0.5, "erk", options=AllocationOptions(power=1.0))
    levels = by_group(found.levels)
    dense = [name for name, level in levels.items() if level == 0]
    assert len(dense) == 14
    assert {"conv1", "fc", "layer3.0.conv1", "layer3.0.downsample.0", "layer4.0.downsample.0"} <= set(dense)
    assert all(levels[name] == 0 for name in levels if name.startswith(("layer1", "layer2")))
    assert [levels[f"layer3.{n}"] for n in ("0.conv2", "1.conv1", "1.conv2")] == [0.3212] * 3
    assert levels["layer4.0.conv1"] == 0.4929
    assert [levels[f"layer4.{n}"] for n in ("0.conv2", "1.conv1", "1.conv2")] == [0.6626] * 3
    assert found.achieved == pytest.approx(0.5, abs=1e-12)


def test_erk_with_power_one_half_as_published(resnet):
    """ALGORITHMS.md L5."""
    found = allocate(layers_of(resnet(18)), 0.5, "erk", options=AllocationOptions(power=0.5))
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


def erk_by_the_book(layers: list[Layer], sparsity: float, power: float) -> dict[str, float]:
    """The loop of ALGORITHMS.md E2: mark layers dense until no density exceeds one."""
    p = {x.name: (sum(x.shape) / math.prod(x.shape)) ** power for x in layers}
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
def test_erk_is_the_published_loop_where_no_cap_bites(shapes, sparsity, power):
    found = layers(*shapes)
    expected = erk_by_the_book(found, sparsity, power)
    assert allocate(found, sparsity, "erk", options=AllocationOptions(power=power, cap=1.0)).levels == pytest.approx(
        expected, abs=1e-9
    )


def test_plain_er_does_not_see_the_kernel():
    """p = (n_in + n_out) / (n_in n_out): two layers that differ in their kernel alone have one density."""
    found = layers((64, 32, 3, 3), (64, 32, 1, 1), (128, 128, 3, 3))
    levels = allocate(found, 0.8, "er").levels
    assert levels["l0"] == pytest.approx(levels["l1"])
    assert (1 - levels["l0"]) / (1 - levels["l2"]) == pytest.approx((96 / 2048) / (256 / 16384))


def test_given_levels_stay_out_of_both_sums_of_erk():
    found = layers((64, 32, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3))
    with_given = allocate(found, 0.7, "erk", given={"l1": 0.2})
    without = allocate([found[0], found[2]], 0.7, "erk")
    assert with_given.levels == pytest.approx({**without.levels, "l1": 0.2})
