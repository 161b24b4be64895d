"""`permute` and `rearrange` in a recipe: orders are applied, recorded, and there again after resuming."""

import copy

import pytest
import torch

import tiny_networks
from secateur.channels import rearrange_for_blocks_
from secateur.errors import ArtifactError, RecipeError
from secateur.pipeline import Context, run_recipe
from secateur.pipeline.options import Options, recipe_of
from secateur.pipeline.reorder import check_orders, reorder_, restore_orders_
from secateur.recipe import SparsifyStage, parse_recipe

RECIPE = """
model: {name: "tiny_networks:network"}
data: {name: "tiny_networks:images"}
seed: 3
stages:
  - {stage: sparsify, pattern: "1x4", sparsity: 0.5, base: selected, rearrange: true}
  - {stage: sparsify, pattern: "2:4", layers: [body], permute: true}
  - {stage: evaluate}
"""


def same_function(a, b):
    image = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.allclose(a.eval()(image), b.eval()(image), atol=1e-5)


@pytest.fixture
def context(tmp_path):
    torch.manual_seed(0)
    return Context.of(parse_recipe(RECIPE), tmp_path)


def test_the_network_is_reordered_and_computes_the_same(context):
    before = copy.deepcopy(context.network)
    (order,) = reorder_(context, SparsifyStage(pattern="1x4", sparsity=0.5, rearrange=True))
    assert order["pattern"] == "1x4" and any(group["order"] for group in order["groups"])
    assert same_function(before, context.network)
    assert not torch.equal(before.body.weight, context.network.body.weight)


@pytest.mark.parametrize("rule", ["balanced", "similar", "sorted"])
def test_a_recipe_chooses_the_rule_of_the_order(context, rule):
    before = copy.deepcopy(context.network)
    stage = SparsifyStage(pattern="1x4", sparsity=0.5, base="selected", rearrange=True, rearrange_rule=rule)
    (order,) = reorder_(context, stage)
    levels = dict.fromkeys(("body", "point"), 0.5)
    expected = rearrange_for_blocks_(copy.deepcopy(before), "1x4", levels=levels, rule=rule, seed=context.recipe.seed)
    assert order["rule"] == rule
    assert {group["name"]: group["order"] for group in order["groups"]} == {
        group.name: list(group.order) for group in expected.groups
    }
    assert same_function(before, context.network)


def test_a_rule_that_is_unknown_or_serves_nothing_is_refused():
    with pytest.raises(RecipeError, match=r"recipe:6: 'rearrange_rule' .*'sortd'"):
        parse_recipe(RECIPE.replace("rearrange: true", "rearrange: true, rearrange_rule: sortd"))
    with pytest.raises(RecipeError, match="rearrange: true says that it is done"):
        check_orders(SparsifyStage(pattern="1x4", rearrange_rule="sorted"))


def test_only_parts_that_ask_are_reordered(context):
    parts = ({"pattern": "1x4", "layers": ["body"], "rearrange": True}, {"pattern": "1x2", "layers": ["point"]})
    stage = SparsifyStage.model_validate({"parts": [part | {"sparsity": 0.5, "base": "selected"} for part in parts]})
    orders = reorder_(context, stage)
    assert [group["layers"] for order in orders for group in order["groups"]] == [["body"]]
    assert reorder_(context, SparsifyStage(pattern="1x4")) == []


def test_a_dense_copy_from_before_gets_the_same_order(context):
    context.keep_dense()
    reorder_(context, SparsifyStage(pattern="1x4", sparsity=0.5, rearrange=True))
    assert torch.equal(context.dense.body.weight, context.network.body.weight)


def test_a_whole_run_and_going_on_with_it(context, tmp_path):
    record = run_recipe(context)
    first, second = record.results("sparsify")
    assert first["orders"][0]["rule"] == "balanced" and second["orders"][0]["pattern"] == "2:4"
    again = Context.of(parse_recipe(RECIPE), tmp_path)
    run_recipe(again)
    for name, value in context.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    for name, value in context.dense.state_dict().items():
        assert torch.equal(value, again.dense.state_dict()[name]), name
    assert same_function(context.dense, as_it_began(context))


def as_it_began(context):
    """The network as the run began with it."""
    return Context.of(context.recipe, context.folder).network


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [
        (SparsifyStage(pattern="1x4", permute=True), "permute is for N:M patterns such as 2:4, not for 1x4"),
        (SparsifyStage(pattern="2:4", rearrange=True), "rearrange is for 1xN patterns such as 1x4, not for 2:4"),
    ],
)
def test_an_order_that_the_pattern_cannot_use_is_refused(stage, sentence):
    with pytest.raises(RecipeError, match=sentence):
        check_orders(stage)


@pytest.mark.parametrize("groups", [None, [{"name": "else"}]])
def test_orders_of_something_else_are_refused(context, groups):
    stranger = {"name": "else", "layers": ["else"], "size": 2, "order": [1, 0], "before": 1, "after": 2, "total": 3}
    groups = groups or [stranger | {"remark": ""}]
    with pytest.raises(ArtifactError):
        restore_orders_(context, {"orders": [{"pattern": "1x4", "rule": "similar", "groups": groups}]})


def test_the_command_asks_for_it():
    options = Options(pattern="1x4", rearrange=True)
    recipe = recipe_of("tiny_networks:network", options, tiny_networks.images())
    stage = next(stage for stage in recipe.stages if isinstance(stage, SparsifyStage))
    assert stage.rearrange and not stage.permute
