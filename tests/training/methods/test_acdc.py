"""AC/DC: the order of phases, and what compressing and decompressing do to weights and momentum."""

import torch
from torch import nn

from secateur.recipe import AcDc, Training
from secateur.sparsity import AllocationOptions, masks, plan_sparsity
from secateur.training.hooks import Scene
from secateur.training.methods.acdc import AcDcPhases, is_sparse
from secateur.training.optimizer import build_optimizer


def test_the_phases():
    def phases(epochs, **settings):
        config = AcDc.model_validate(settings)
        return "".join(".#"[is_sparse(config, epoch, epochs)] for epoch in range(epochs))

    assert phases(8) == ".#.#.###"
    assert phases(12, warmup=2, phase=2, last=3) == "..##..##.###"
    assert phases(2, warmup=5, last=1) == ".#" and phases(3, warmup=0, last=1) == "#.#"


def begun(allocation="uniform", **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].weight *= 0.5
    plan = plan_sparsity(
        model, 0.5, "unstructured", base="selected", allocation=allocation, include_first=True, **options
    )
    config = Training.model_validate({"epochs": 8})
    optimizer = build_optimizer(model, config)
    hook = AcDcPhases(plan, AcDc.model_validate({}))
    hook.begin(Scene(model, optimizer, None, config, 10, 0))
    return hook, model, plan, optimizer


def zeros(model):
    return [int((~mask).sum()) for mask in masks(model).values()]


def test_layers_by_their_level_or_against_each_other():
    hook, model, plan, _ = begun()
    hook.before_epoch(0)
    assert zeros(model) == [0, 0]
    hook.before_epoch(1)
    assert zeros(model) == [32, 32]
    hook, model, plan, _ = begun("global_magnitude")
    hook.before_epoch(1)
    first, second = zeros(model)
    assert first + second == plan.zeros == 64 and first > second + 10


def test_bounds_and_levels_of_single_layers_hold_where_all_others_compete():
    hook, model, plan, _ = begun("global_magnitude", levels={"1": 0.25})
    hook.before_epoch(1)
    assert zeros(model)[1] == 16 == round(plan.levels["1"] * 64) and sum(zeros(model)) == plan.zeros
    hook, model, plan, _ = begun("global_magnitude", options=AllocationOptions(cap=0.6))
    hook.before_epoch(1)
    assert zeros(model) == [38, 26] and plan.zeros == 64


def test_what_was_removed_starts_again_from_nothing():
    hook, model, _, optimizer = begun()
    hook.before_epoch(1)
    weight, gone = model[0].parametrizations.weight.original, ~masks(model)["0"]
    model(torch.randn(4, 8)).sum().backward()
    optimizer.step()
    optimizer.state[weight]["momentum_buffer"].fill_(1.0)
    kept = weight[~gone].clone()
    hook.before_epoch(2)
    assert masks(model)["0"].all() and not weight[gone].any() and torch.equal(weight[~gone], kept)
    assert not optimizer.state[weight]["momentum_buffer"][gone].any()
    hook.before_epoch(3)
    assert zeros(model) == [32, 32]
    before = masks(model)["0"].clone()
    hook.before_epoch(6)  # the last phase goes on from a sparse one
    assert torch.equal(masks(model)["0"], before)
