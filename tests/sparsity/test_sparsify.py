"""Plans and sparsifiers: exact counts, schedules, repeatability, sentences."""

import copy
import json
from collections.abc import Callable

import pytest
import torch
from torch import nn

from secateur.errors import ArtifactError, RecipeError, SparsityError
from secateur.sparsity import (
    AgpEpochs,
    AgpIterations,
    BlockOf,
    Sparsifier,
    SparsityPlan,
    census,
    fold_masks_,
    masks,
    plan_sparsity,
    sparsify_,
)

# The levels of DeGirum's two ResNet-50 files (ALGORITHMS.md L1).
LEVELS_70 = {"*": 0.70, "fc": 0.87, "conv1": 0.0, "layer1.*": 0.0, "layer2.0.conv1": 0.0}
LEVELS_85 = {"*": 0.85, "fc": 0.80, "conv1": 0.0}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1, groups=2),
        nn.Conv2d(24, 32, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


@pytest.mark.parametrize(
    ("levels", "nonzeros", "sparsity", "sparse_macs", "parameters", "compute"),
    [
        (LEVELS_70, 7_481_351, 70.66472, 1_848_514_586, 3.4089, 2.2121),
        (LEVELS_85, 3_935_859, 84.56702, 713_814_957, 6.4796, 5.7286),
    ],
)
def test_degirum_s_resnet50_files(
    resnet: Callable[[int], nn.Module], levels, nonzeros, sparsity, sparse_macs, parameters, compute
):
    """ALGORITHMS.md L1: published nonzeros, sparsity, MACs and reductions."""
    model = resnet(50)
    plan = sparsify_(model, 0.0, "unstructured", levels=levels)
    assert plan.total - plan.zeros == nonzeros
    found = census(model)
    assert (found.weights, found.macs, found.nonzeros) == (25_502_912, 4_089_184_256, nonzeros)
    assert round(100 * found.sparsity, 5) == sparsity
    assert found.sparse_macs == sparse_macs
    assert round(found.parameter_reduction, 4) == parameters
    assert round(found.compute_reduction, 4) == compute


def test_the_same_files_with_msbench_s_rounding(resnet: Callable[[int], nn.Module]):
    """ALGORITHMS.md L1."""
    model = resnet(50)
    for levels, nonzeros in ((LEVELS_70, 7_481_310), (LEVELS_85, 3_935_806)):
        plan = plan_sparsity(model, 0.0, "unstructured", levels=levels, rounding="complement")
        assert plan.total - plan.zeros == nonzeros


def test_a_plan_changes_nothing_and_prints_a_table_to_act_on():
    model = network()
    before = copy.deepcopy(model.state_dict())
    text = str(plan_sparsity(model, 0.5, "1x4"))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert "first convolution" in text and "classifier" in text
    assert "base conv_linear" in text and "1x4 (remainder short)" in text
    row = next(line for line in text.splitlines() if line.startswith("2 "))
    assert row.split()[:4] == ["2", "conv", "24×8×3×3", "1x4"]


@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "1x4-fine", "1x8"])
@pytest.mark.parametrize("remainder", ["short", "dense"])
def test_the_plan_s_zeros_are_the_masks_zeros(pattern: str, remainder: str):
    model = network()
    plan = sparsify_(model, 0.5, pattern, base="selected", remainder=remainder)
    for layer in plan.layers:
        mask = masks(model).get(layer.name)
        if layer.level is None:
            assert mask is None and layer.zeros == 0 and layer.reason
            continue
        gone = int((~mask).sum())
        # 12 filters per group are no multiple of 8: a removed short block holds fewer weights than a whole one.
        spread = 4 * 9 * layer.units if (pattern, remainder, layer.name) == ("1x8", "short", "2") else 0
        assert abs(gone - layer.zeros) <= spread
    plain = census(model, (3, 8, 8))
    fold_masks_(model)
    assert census(model, (3, 8, 8)).nonzeros == plain.nonzeros


def test_dense_remainders_are_made_up_for():
    model = network()
    plan = plan_sparsity(model, 0.5, "1x5", base="selected", remainder="dense")
    assert plan.achieved == pytest.approx(0.5, abs=0.02)
    assert all(level > 0.5 for level in plan.levels.values())


def test_a_plan_makes_the_round_trip_through_json():
    plan = plan_sparsity(network(), 0.5, BlockOf(4, "position", "dense"), "l2", "erk", exclude=["3"])
    assert SparsityPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize("damage", [{"layers": 3}, {"pattern": "5x5"}, {"rounding": "up"}, {"sparsity": 2.0}])
def test_a_damaged_plan_is_a_sentence(damage):
    value = plan_sparsity(network(), 0.5).to_dict() | damage
    with pytest.raises(ArtifactError, match="not a sparsity plan"):
        SparsityPlan.from_dict(value)


def test_one_shot_happens_once():
    model = network()
    sparsifier = Sparsifier(model, plan_sparsity(model, 0.5, "unstructured", base="selected"))
    assert all(mask.all() for mask in masks(model).values())
    assert sparsifier.update_(0) and not sparsifier.update_(1)
    assert all(int((~mask).sum()) == mask.numel() // 2 for mask in masks(model).values())


def test_gradual_masks_follow_the_schedule_and_are_nested_while_weights_stay():
    model = network()
    plan = plan_sparsity(model, 0.8, "1x4", base="selected")
    schedule = AgpEpochs(1, 8, 2, 0.1, 0.8)
    sparsifier = Sparsifier(model, plan, schedule)
    before = {name: mask.clone() for name, mask in masks(model).items()}
    for epoch in range(10):
        assert sparsifier.update_(epoch) == schedule.due(epoch)
        for name, mask in masks(model).items():
            layer = next(layer for layer in plan.layers if layer.name == name)
            groups = int(schedule.sparsity_at(epoch) * layer.units + 1e-6)
            assert int((~mask).sum()) == groups * layer.weights // layer.units
            assert not bool((mask & ~before[name]).any())
        before = {name: mask.clone() for name, mask in masks(model).items()}
    assert plan.zeros == sum(int((~mask).sum()) for mask in before.values())


def test_masks_are_chosen_from_the_dense_weights_so_that_one_may_come_back():
    model = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Linear(1, 1))
    model[0].weight.data = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    plan = plan_sparsity(model, 0.5, "unstructured", base="selected")
    sparsifier = Sparsifier(model, plan, AgpIterations(10, 0.5, begin=0.0, end=0.4, every=2))
    sparsifier.update_(4)
    assert masks(model)["0"].tolist() == [[False, False, True, True]]
    model[0].parametrizations.weight.original.data[0, 0] = 9.0
    sparsifier.update_(4)
    assert masks(model)["0"].tolist() == [[True, False, False, True]]


def test_random_is_repeatable_by_seed_and_exact():
    chosen = []
    for seed in (1, 1, 2):
        model = network()
        plan = plan_sparsity(model, 0.5, "unstructured", "random", base="selected")
        Sparsifier(model, plan, seed=seed).update_(0)
        chosen.append(masks(model))
    assert all(torch.equal(chosen[0][name], chosen[1][name]) for name in chosen[0])
    assert not all(torch.equal(chosen[0][name], chosen[2][name]) for name in chosen[0])
    assert all(int((~mask).sum()) == mask.numel() // 2 for mask in chosen[2].values())


def test_levels_reach_the_defaults_and_later_ones_win():
    plan = plan_sparsity(network(), 0.5, "unstructured", base="selected", levels={"*": 0.25, "0": 0.5}, exclude=["3"])
    assert plan.levels == {"0": 0.5, "2": 0.25, "6": 0.25}
    assert plan.skipped == {"3": "excluded by '3'"}


def test_nan_weights_name_the_layer():
    model = network()
    model[3].weight.data[0] = float("nan")
    with pytest.raises(SparsityError, match=r"^3: .*not finite"):
        sparsify_(model, 0.5, base="selected")


def test_a_plan_of_another_model_is_refused():
    plan = plan_sparsity(network(), 0.5, base="selected")
    other = network()
    other[3] = nn.Conv2d(24, 16, 1)
    with pytest.raises(SparsityError, match="another model: 3 has shape"):
        Sparsifier(other, plan)
    with pytest.raises(SparsityError, match="which the model does not have"):
        Sparsifier(nn.Sequential(nn.Linear(2, 2)), plan)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"criterion": "magnitud"}, RecipeError, "Did you mean 'magnitude'"),
        ({"allocation": "erkk"}, RecipeError, "Did you mean 'erk'"),
        ({"pattern": "1x99"}, SparsityError, "N goes from 2 to 32"),
        ({"levels": {"layer9": 0.5}}, SparsityError, "layer9"),
        ({"sparsity": 0.99}, SparsityError, "at most"),
    ],
)
def test_mistakes_are_sentences(options, error, words):
    with pytest.raises(error, match=words):
        plan_sparsity(network(), **{"sparsity": 0.5, **options})
