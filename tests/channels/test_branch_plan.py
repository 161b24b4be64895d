"""Plans of residual branches: data that adds up, replays, and is checked when it comes from outside."""

import json

import pytest

import tiny_networks
from secateur.channels import residual_branches
from secateur.channels.branch_plan import BranchPlan
from secateur.errors import ArtifactError, SparsityError


@pytest.fixture
def plan():
    first, second, _ = residual_branches(tiny_networks.residual())
    return BranchPlan.of_none(0.5, "macs", 4000, 400_000).without(first, 0.25).without(second, 0.5)


def test_a_plan_adds_up(plan):
    assert plan.loss == 0.5 and plan.losses == (0.25, 0.5)
    assert plan.macs == (400_000, 400_000 - 2 * 73_728)
    assert plan.removed == pytest.approx(2 * 73_728 / 400_000)
    by_parameters = BranchPlan.of_none(0.5, "parameters", 4000, 400_000)
    assert by_parameters.loss == 0.0 and by_parameters.removed == 0.0
    assert by_parameters.share(plan.branches[0]) == plan.branches[0].parameters / 4000


def test_a_plan_survives_json_and_is_a_table(plan):
    again = BranchPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    text = str(plan)
    assert "blocks.0.conv1, blocks.0.conv2" in text and "2 branches, 36.86 % of the MACs" in text


def test_a_plan_replays_and_refuses_another_network(plan):
    network = tiny_networks.residual()
    plan.apply_(network)
    assert not [name for name, _ in network.named_parameters() if name.startswith(("blocks.0", "blocks.1"))]
    with pytest.raises(SparsityError, match=r"blocks\.0"):
        plan.apply_(tiny_networks.network())


@pytest.mark.parametrize(
    ("change", "said"),
    [({"branches": 3}, "not iterable"), ({"target": "half"}, "no number"), ({"target": float("nan")}, "no number"),
     ({"losses": [True]}, "no number"), ({"macs": [1, -1]}, "no whole number"), ({"base": 1}, "no text"),
     ({"parameters": [1]}, "not enough values")],
)  # fmt: skip
def test_damage_is_said(plan, change, said):
    with pytest.raises(ArtifactError, match=said):
        BranchPlan.from_dict(plan.to_dict() | change)


@pytest.mark.parametrize("change", [{"rest": "gelu"}, {"name": None}, {"macs": 0.5}, {"layers": [1]}])
def test_damaged_branches_are_said(plan, change):
    value = json.loads(json.dumps(plan.to_dict()))
    value["branches"][0] |= change
    with pytest.raises(ArtifactError, match="not a plan of branches"):
        BranchPlan.from_dict(value)


def test_what_is_no_plan_is_said():
    for value in (None, [], {}, "plan"):
        with pytest.raises(ArtifactError):
            BranchPlan.from_dict(value)
