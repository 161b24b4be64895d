"""Allocation ddpg in a recipe: what is decided on, what is found, resumed and refused."""

import copy
import json

import pytest
import torch

from secateur.errors import RecipeError, SparsityError
from secateur.pipeline import Context, run_recipe
from secateur.pipeline.check import check_recipe
from secateur.pipeline.dry_run import describe
from secateur.pipeline.level_search import LevelJudge, level_problem, search_levels
from secateur.pipeline.parts import plan_of
from secateur.recipe import build_recipe

SEARCH = {"learner": "random", "rollouts": 5, "warmup": 2, "iterations": 2, "batch_size": 16, "images": 16}
SEARCH |= {"regression": {"iterations": 2}}
STAGE = {
    "stage": "sparsify",
    "pattern": "unstructured",
    "sparsity": 0.6,
    "base": "selected",
    "allocation": "ddpg",
    "search": SEARCH,
    "schedule": {"kind": "one_shot"},
    "training": {"epochs": 1, "batch_size": 16},
}


def context_of(folder, **changes):
    value = {"model": {"name": "tiny_networks:network"}, "data": {"name": "tiny_networks:images"}, "seed": 3}
    return Context.of(build_recipe(value | {"stages": [STAGE | changes]}), folder)


def problem_of(folder, **changes):
    context = context_of(folder, **changes)
    return level_problem(context, context.recipe.stages[0])


def test_decisions(tmp_path):
    problem = problem_of(tmp_path)
    assert [(layer.name, layer.shape, layer.weights) for layer in problem.layers] == [
        ("body", (16, 8, 3, 3), 1152),
        ("point", (18, 16, 1, 1), 288),
    ]
    assert (problem.target, problem.counted, problem.reward_type) == (0.6, 1440, "single")
    # Of all 1872 convolution and linear weights: what layers keep that are left alone, the two must make up for.
    problem = problem_of(tmp_path, base="conv_linear", search=SEARCH | {"reward": "multi"})
    assert problem.target == pytest.approx(0.6 * 1872 / 1440)
    assert (problem.counted, problem.reward_type) == (1872, "multi")
    problem = problem_of(tmp_path, base="conv_linear", levels={"po*": 0.5}, cap=0.95)
    assert [(layer.name, layer.bound) for layer in problem.layers] == [("body", 0.95)]
    assert problem.target == pytest.approx(0.6 * (1872 - 288) / 1152)


def test_a_run_finds_levels_and_prunes_to_them(tmp_path):
    record = run_recipe(context_of(tmp_path))
    result = record.stages[0].result
    (found,) = result["searches"]
    levels = {layer["name"]: layer["level"] for layer in result["plans"][0]["layers"] if layer["level"] is not None}
    assert levels == pytest.approx(found["table"])
    assert result["plans"][0]["achieved"] >= 0.6 - 2 / 1440
    logged = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("stages/*/search/rollouts/*.json"))]
    assert len(logged) == 5 == found["rollouts"]
    assert found["reward"] == max(row["reward"] for row in logged)
    assert len(result["history"]) == 1


def test_ddpg_in_a_part(tmp_path):
    pytest.importorskip("stable_baselines3", reason="needs stable-baselines3 (pip install 'secateur[search]')")
    part = {key: STAGE[key] for key in ("pattern", "sparsity", "base", "allocation", "search", "schedule")}
    part["search"] = SEARCH | {"learner": "ddpg"}
    stage = {"stage": "sparsify", "parts": [{"layers": ["point"]} | part, {"layers": ["body"], "sparsity": 0.3}]}
    value = {"model": {"name": "tiny_networks:network"}, "data": {"name": "tiny_networks:images"}, "seed": 3}
    stage["training"] = {"epochs": 0}
    result = run_recipe(Context.of(build_recipe(value | {"stages": [stage]}), tmp_path)).stages[0].result
    (found,) = result["searches"]
    assert list(found["table"]) == ["point"] and found["rollouts"] == 5


def test_a_search_that_was_killed_goes_on(tmp_path, monkeypatch):
    from secateur.pipeline import level_search

    context = context_of(tmp_path / "whole")
    part = context.recipe.stages[0]
    before = copy.deepcopy(context.network.state_dict())
    whole = search_levels(context, part, tmp_path / "whole")
    after = context.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    original, judged = level_search.Judge.accuracy_of, []

    def accuracy(self, network):
        judged.append(network)
        if len(judged) == 3:
            raise KeyboardInterrupt
        return original(self, network)

    monkeypatch.setattr(level_search.Judge, "accuracy_of", accuracy)
    with pytest.raises(KeyboardInterrupt):
        search_levels(context_of(tmp_path / "part"), part, tmp_path / "part")
    assert search_levels(context_of(tmp_path / "part"), part, tmp_path / "part") == whole
    assert len(judged) == 3 + 3


def test_a_dry_run_says_that_levels_are_to_come(tmp_path):
    assert "the levels will be searched for in 5 roll-outs; those shown are uniform" in describe(context_of(tmp_path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"allocation": "erk"}, "search stands beside allocation: erk"),
        ({"pattern": "2:4", "sparsity": 0.5}, "2:4 has one level"),
        ({"level_max_factor": 1.1}, "knows no level_max_factor"),
        ({"schedule": {"kind": "threshold", "thresholds": {"body": 0.1}}}, "left to thresholds"),
    ],
)
def test_contradictions(tmp_path, changes, words):
    with pytest.raises(RecipeError, match=words):
        check_recipe(context_of(tmp_path, **changes))


def test_a_target_out_of_reach(tmp_path):
    with pytest.raises(SparsityError, match="out of reach"):
        check_recipe(context_of(tmp_path, sparsity=0.9, cap=0.5))


def test_too_few_roll_outs_to_learn_from():
    with pytest.raises(RecipeError, match="ddpg learns after 50 roll-outs of 20; lower warmup"):
        build_recipe({"model": {"name": "any"}, "stages": [STAGE | {"search": {"rollouts": 20}}]})


def test_any_allocation_can_be_judged_like_a_table(tmp_path):
    context = context_of(tmp_path)
    part = context.recipe.stages[0]
    judge = LevelJudge(context, part, tmp_path)
    erk = part.model_copy(update={"allocation": "erk", "search": None})
    levels = plan_of(context, erk).levels
    listed = part.model_copy(update={"allocation": "listed", "levels": levels, "sparsity": None, "search": None})
    assert judge.accuracy(erk) == judge.accuracy(listed)
    heavy = part.model_copy(update={"allocation": "uniform", "sparsity": 0.98, "search": None})
    assert 0.0 <= judge.accuracy(heavy) <= 1.0
