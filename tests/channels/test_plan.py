"""A plan as data: it survives JSON, and nothing else is taken for one."""

import copy
import json

import pytest

from channels.topologies import network
from secateur.channels.plan import RemovalPlan
from secateur.channels.planning import plan_channels
from secateur.errors import ArtifactError


@pytest.fixture(scope="module")
def plan():
    return plan_channels(network("grouped"), 0.4, (3, 8, 8), base="channels", exclude=["2.0"])


@pytest.fixture()
def data(plan):
    return json.loads(json.dumps(plan.to_dict()))


def test_a_plan_survives_json(plan, data):
    assert RemovalPlan.from_dict(data) == plan


def set_at(value, path, new):
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("cuts", 0, "kept"), []),
        (("cuts", 0, "kept"), [1, 0]),
        (("cuts", 0, "kept"), [0, 0]),
        (("cuts", 0, "kept"), [-1, 2]),
        (("cuts", 0, "kept"), [0, 12]),
        (("cuts", 0, "kept"), [0, True]),
        (("cuts", 0, "kept"), [0.5]),
        (("cuts", 0, "kept"), "01"),
        (("cuts", 0, "kept"), None),
        (("cuts", 0, "length"), 2**80),
        (("cuts", 0, "axis"), -1),
        (("cuts", 0, "axis"), 7),
        (("cuts", 0, "role"), "owner"),
        (("cuts", 0, "groups"), 0),
        (("cuts", 0, "groups"), 5),
        (("cuts", 0, "tensor"), 3),
        (("cuts", 0, "tensor"), "another.weight"),
        (("cuts",), {}),
        (("cuts",), None),
        (("shapes",), {}),
        (("shapes",), []),
        (("shapes", "0.0.weight"), [3, 3, 3, 3]),
        (("shapes", "0.0.weight"), ["8"]),
        (("groups", 1, "after"), 0),
        (("groups", 1, "after"), 100),
        (("groups", 1, "layers"), [1]),
        (("groups", 1, "macs"), [1]),
        (("groups", 1, "parameters"), [1, -1]),
        (("groups", 1, "reason"), 5),
        (("bias",), {"0.0.bias": [float("inf")]}),
        (("bias",), {"0.0.bias": ["1"]}),
        (("bias",), []),
        (("macs_after",), "many"),
        (("macs_after",), None),
        (("target",), float("nan")),
        (("base",), 1),
    ],
)
def test_what_is_no_plan_is_refused(data, path, value):
    set_at(data, path, value)
    with pytest.raises(ArtifactError, match="this is not a removal plan"):
        RemovalPlan.from_dict(data)


@pytest.mark.parametrize("value", [None, [], "plan", 3, {}, {"cuts": []}])
def test_what_is_nothing_like_a_plan_is_refused(value):
    with pytest.raises(ArtifactError):
        RemovalPlan.from_dict(value)


@pytest.mark.parametrize("key", ["target", "cuts", "groups", "shapes", "bias", "macs_before"])
def test_a_missing_key_is_refused(data, key):
    del data[key]
    with pytest.raises(ArtifactError, match=key):
        RemovalPlan.from_dict(data)


def test_an_axis_is_cut_once(data):
    data["cuts"].append(copy.deepcopy(data["cuts"][0]))
    with pytest.raises(ArtifactError, match="cut twice"):
        RemovalPlan.from_dict(data)


def test_groups_of_a_grouped_layer_stay_of_one_size(data):
    cut = next(cut for cut in data["cuts"] if cut["groups"] == 4)
    cut["kept"] = [0, 1, 2, 3, 4, 5, 6, 9]
    with pytest.raises(ArtifactError, match="equal numbers"):
        RemovalPlan.from_dict(data)


def test_a_plan_is_a_table_with_reasons(plan):
    text = str(plan)
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert lines["0.0"].split()[1:5] == ["0.0", "12", "8", "33.33"]
    assert "excluded by '2.0'" in lines["2.0"]
    assert "output of the network" in text
    assert f"{plan.macs_before:,} > {plan.macs_after:,}" in lines["total"]
    assert "asked for: 40.00 % of the channels, by l2" in text
