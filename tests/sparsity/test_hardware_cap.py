"""Caps from measured times: plateaus, falls, noise, and layers that gain nothing."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.errors import ArtifactError, SparsityError
from secateur.sparsity import LayerSeconds, hardware_cap, plan_sparsity

LEVELS = (0.0, 0.25, 0.5, 0.75, 0.9)


def table(**seconds):
    layers = {name: dict(zip(LEVELS, times, strict=True)) for name, times in seconds.items()}
    return LayerSeconds("one core", "unstructured", layers)


@pytest.mark.parametrize(
    ("times", "cap"),
    [
        ((10, 8, 6, 4, 2), 0.9),
        ((10, 8, 6, 5.9, 5.85), 0.5),  # less than 2 % a step from .5 on
        ((10, 10, 10, 5, 5), 0.75),  # a plateau before the fall is not the end
        ((10, 10.5, 9.9, 5, 5.2), 0.75),  # nor is a noisy step
        ((10, 9, 9.5, 9.6, 9.7), 0.25),  # sparser is slower
    ],
)
def test_the_cap_is_where_the_time_stops_falling(times, cap):
    assert hardware_cap(table(a=times)).caps == {"a": cap}


def test_a_layer_that_gains_nothing_stays_dense_with_the_reason():
    found = hardware_cap(table(a=(10, 10, 10, 10, 9.9), b=(10, 11, 12, 13, 14), c=(10, 9, 8, 7, 6)))
    assert found.caps == {"c": 0.9}
    assert found.dense == dict.fromkeys(("a", "b"), "no level makes it faster here (one core, unstructured)")


@given(st.lists(st.floats(1e-6, 1.0), min_size=5, max_size=5), st.floats(0.001, 0.2))
def test_behind_the_cap_no_horizon_pays_and_in_front_of_it_one_does(times, gain):
    found = hardware_cap(table(a=tuple(times)), gain)
    cap = LEVELS.index(found.caps.get("a", 0.0))

    def pays(start):
        return any(times[j] <= times[start] * (1 - gain * (j - start)) for j in range(start + 1, 5))

    assert not pays(cap) and all(pays(start) for start in range(cap))


def test_the_table_comes_back_from_its_file(tmp_path):
    written = table(a=(1e-3, 9e-4, 8e-4, 7e-4, 1 / 3))
    written.write(tmp_path / "seconds.json")
    assert LayerSeconds.read(tmp_path / "seconds.json") == written
    with_rest = replace(written, rest=0.25)
    with_rest.write(tmp_path / "seconds.json")
    assert LayerSeconds.read(tmp_path / "seconds.json") == with_rest


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"layers": []},
        {"layers": {"a": {"0.5": 1.0}}},
        {"layers": {"a": {"0.0": 1.0, "1.5": 1.0}}},
        {"layers": {"a": {"0.0": -1.0}}},
        {"layers": {"a": {"0.0": "fast"}}},
        {"layers": {"a": 3}},
        {"layers": {"a": {"zero": 1.0}}},
        {"rest": -1.0},
        {"rest": "much"},
    ],
)
def test_a_damaged_table_is_a_sentence(tmp_path, damage):
    path = tmp_path / "seconds.json"
    path.write_text(json.dumps(table(a=(1, 1, 1, 1, 1)).to_dict() | damage))
    with pytest.raises(ArtifactError, match=r"seconds\.json: this is not a table of layer times"):
        LayerSeconds.read(path)


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Conv2d(16, 16, 3), nn.Linear(16, 10))


def test_a_plan_keeps_to_the_caps_and_names_what_stays_dense():
    seconds = table(**{"1": (10, 10, 10, 10, 10), "2": (10, 8, 6, 6, 6), "3": (10, 8, 6, 4, 2)})
    plan = plan_sparsity(
        network(), 0.4, "unstructured", base="selected", hardware=seconds, include_classifier=True, exclude=["0"]
    )
    assert plan.skipped["1"] == "no level makes it faster here (one core, unstructured)"
    assert plan.levels == pytest.approx({"2": 0.4, "3": 0.4})
    high = plan_sparsity(
        network(), 0.51, "unstructured", base="selected", hardware=seconds, include_classifier=True, exclude=["0"]
    )
    assert high.levels["2"] == 0.5 and high.capped == ("2",)
    with pytest.raises(SparsityError, match="caps of single layers"):
        plan_sparsity(network(), 0.9, "unstructured", base="selected", hardware=seconds)
