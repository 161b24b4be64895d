"""Criteria that look at data get their statistics from the stage; options reach the scores."""

import copy
from pathlib import Path

import pytest
import torch

import tiny_networks
from secateur.errors import SparsityError
from secateur.pipeline import Context, stage_handlers
from secateur.pipeline.network import restore_network_, save_network
from secateur.pipeline.scoring import scoring_of, statistics_for
from secateur.recipe import Data, Model, Recipe, SparsifyPart, SparsifyStage, Training
from secateur.sparsity import Scoring, masks


def context_of(stage: SparsifyStage, **data: object) -> Context:
    recipe = Recipe(model=Model(name="tiny_networks:network"), data=Data.model_validate(data), stages=(stage,))
    return Context(recipe, Path("unused"), tiny_networks.images(), tiny_networks.network())


def test_options_of_the_recipe():
    part = SparsifyPart(criterion="l2", fold_norm=True, noise=0.25)
    assert scoring_of(part) == Scoring("l2", fold_norm=True, noise=0.25)


@pytest.mark.parametrize("criterion", ["taylor", "apoz", "fisher", "wanda"])
def test_the_stage_gathers_what_its_criterion_needs(criterion):
    pattern = "filter" if criterion in ("taylor", "apoz") else "1x2"
    stage = SparsifyStage(
        criterion=criterion,
        pattern=pattern,
        sparsity=0.5,
        base="selected",
        statistics_images=8,
        training=Training(epochs=0),
    )
    context = context_of(stage)
    plan = stage_handlers["sparsify"](context, stage)["plans"][0]
    removed = sum(int((~mask).sum()) for mask in masks(context.network).values())
    assert removed == sum(layer["zeros"] for layer in plan["layers"]) > 0


def test_no_more_images_than_the_run_may_train_with():
    context = context_of(SparsifyStage(), train_limit=6)
    assert statistics_for(context, Scoring("magnitude", fold_norm=True), 100) is None
    found = statistics_for(context, Scoring("wanda"), 100)
    assert found is not None and {statistics.images for statistics in found.values()} == {6}


def test_a_criterion_of_filters_is_refused_for_blocks():
    stage = SparsifyStage(criterion="taylor", pattern="1x4", training=Training(epochs=0))
    with pytest.raises(SparsityError, match="scores whole filters"):
        stage_handlers["sparsify"](context_of(stage), stage)


def test_what_bernoulli_makes_up_for_is_kept_between_stages(tmp_path: Path):
    stage = SparsifyStage(criterion="bernoulli", pattern="filter", sparsity=0.5, training=Training(epochs=0))
    context = context_of(stage)
    dense = copy.deepcopy(context.network)
    stage_handlers["sparsify"](context, stage)
    save_network(context.network, tmp_path / "network.safetensors")
    again = tiny_networks.network()
    restore_network_(again, tmp_path / "network.safetensors")
    for name, mask in masks(context.network).items():
        weight = context.network.get_submodule(name).weight
        assert torch.equal(again.get_submodule(name).weight, weight)
        assert torch.allclose(weight, dense.get_submodule(name).weight * mask / mask.float().mean())
