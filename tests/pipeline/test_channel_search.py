"""`search` of a stage remove_channels: decisions from groups, the budget, and a whole run."""

import json

import pytest
from torch import nn

from secateur.channels import RemovalPlan, channel_groups
from secateur.errors import RecipeError, SparsityError
from secateur.pipeline import Context, run_recipe
from secateur.pipeline.channel_search import channel_problem, work_of
from secateur.pipeline.check import check_recipe
from secateur.pipeline.dry_run import describe
from secateur.recipe import build_recipe

SEARCH = {"learner": "random", "rollouts": 4, "iterations": 2, "batch_size": 16, "images": 16}
STAGE = {"stage": "remove_channels", "target": 0.4, "search": SEARCH, "training": {"epochs": 0}}


def recipe_of(**changes):
    value = {"model": {"name": "tiny_networks:network"}, "data": {"name": "tiny_networks:images"}, "seed": 3}
    return build_recipe(value | {"stages": [STAGE | changes]})


def problem_of(folder, **changes):
    context = Context.of(recipe_of(**changes), folder)
    groups = channel_groups(context.network, (3, 16, 16))
    return channel_problem(context, context.recipe.stages[0], groups)


def test_decisions(tmp_path):
    problem = problem_of(tmp_path, round_to=2)
    stem, body = problem.groups
    # What `body` reads at 16x16 in steps of 2, and what `point` reads of the depthwise layer at 8x8.
    assert (stem.name, stem.size, stem.outputs, stem.inputs) == ("stem", 8, 16, 8)
    assert (stem.height, stem.width, stem.stride, stem.macs) == (16, 16, 2, 16 * 8 * 9 * 64)
    assert (body.name, body.size, body.outputs, body.inputs) == ("body", 16, 18, 16)
    assert (body.height, body.width, body.stride, body.macs) == (8, 8, 1, 18 * 16 * 64)
    assert (stem.step, stem.least) == (2, 2)
    assert problem.keep == pytest.approx(0.6)


def test_groups_of_the_last_layer_and_excluded_ones_stay_whole(tmp_path):
    assert problem_of(tmp_path, exclude=["stem"]).names == ("body",)


@pytest.mark.parametrize("shares", [(1.0, 1.0), (0.5, 0.25), (0.125, 1.0)])
def test_work_is_what_smaller_tensors_cost(tmp_path, shares):
    problem = problem_of(tmp_path)
    a, b = shares
    expected = 8 * 3 * 9 * 256 * a + 16 * 8 * 9 * 64 * a * b + 16 * 9 * 64 * b + 18 * 16 * 64 * b + 4 * 18
    assert problem.macs(shares) == pytest.approx(expected)


def test_work_of_concatenated_and_added_groups():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 24, 1)
            self.last = nn.Conv2d(32, 4, 1)

        def forward(self, x):
            import torch

            return self.last(torch.cat([self.one(x), self.two(x)], dim=1))

    work = work_of(channel_groups(Joined(), (3, 4, 4)), {"one", "two"})
    left = sum(one.left({"one": 0.5, "two": 0.75}) for one in work)
    assert left == pytest.approx(16 * (3 * 4 + 3 * 18 + 4 * (4 + 18)))


@pytest.mark.parametrize("learner", ["random", "ddpg"])
def test_a_run_takes_out_what_the_best_table_says(tmp_path, learner):
    if learner == "ddpg":
        pytest.importorskip("stable_baselines3", reason="needs stable-baselines3 (pip install 'secateur[search]')")
    search = SEARCH | {"learner": learner, "warmup": 2}
    result = run_recipe(Context.of(recipe_of(search=search), tmp_path)).stages[0].result
    plan = RemovalPlan.from_dict(result["removals"][0])
    logged = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("stages/*/search/rollouts/*.json"))]
    best = max(logged, key=lambda row: row["reward"])
    kept = {group.name: group.after / group.before for group in plan.groups if group.name in best["table"]}
    assert kept == pytest.approx(best["table"])
    assert plan.macs_after <= 0.6 * plan.macs_before
    assert (plan.target, plan.base) == (0.4, "macs")


def test_a_dry_run_says_that_ratios_are_to_come(tmp_path):
    assert "the ratios will be searched for in 4 roll-outs" in describe(Context.of(recipe_of(), tmp_path))


@pytest.mark.parametrize(
    ("changes", "key"), [({"steps": 2}, "steps"), ({"ratios": {"stem": 0.5}}, "ratios"), ({"base": "channels"}, "base")]
)
def test_a_search_chooses_alone(changes, key):
    with pytest.raises(RecipeError, match=f"leave '{key}' out"):
        recipe_of(**changes)


def test_a_target_out_of_reach(tmp_path):
    with pytest.raises(SparsityError, match="cannot be"):
        check_recipe(Context.of(recipe_of(target=0.9, min_channels=8), tmp_path))
