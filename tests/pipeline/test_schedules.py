"""The schedule that a part gets when its recipe leaves things open, and threshold rules by layer."""

from pathlib import Path

import pytest

import tiny_networks
from secateur import sparsity
from secateur.errors import RecipeError, SparsityError
from secateur.pipeline import Context
from secateur.pipeline.schedules import by_layer, schedule_of, thresholds_of
from secateur.recipe import (
    AgpEpochs,
    AgpIterations,
    Baidu,
    FixedLevels,
    Model,
    OneShot,
    Ramp,
    RandomLevel,
    Recipe,
    SparsifyPart,
    SparsifyStage,
    Splice,
    Thresholds,
    Training,
)


@pytest.fixture
def context():
    stage = SparsifyStage()
    recipe = Recipe(model=Model(name="tiny_networks:network"), stages=(stage,))
    return Context(recipe, Path("unused"), tiny_networks.images(), tiny_networks.network())


def schedule(context, epochs, asked, target=0.8):
    return schedule_of(context, SparsifyPart(schedule=asked), Training(epochs=epochs, batch_size=16), target)


def thresholds(context, epochs, asked):
    return thresholds_of(context.network, SparsifyPart(schedule=asked), Training(epochs=epochs))


def test_sparsity_rises_over_sixty_percent_of_the_epochs(context):
    found = schedule(context, 10, AgpEpochs())
    assert found == sparsity.AgpEpochs(0, 6, 1, 0.05, 0.8)
    assert found.sparsity_at(5) == pytest.approx(0.8)


def test_a_low_target_starts_at_its_half(context):
    assert schedule(context, 10, AgpEpochs(), target=0.06).initial == 0.03


def test_one_epoch_has_no_room_for_a_ramp(context):
    assert schedule(context, 1, AgpEpochs()) == sparsity.OneShot(0.8)


def test_an_end_beyond_training_is_refused(context):
    with pytest.raises(RecipeError, match="ends at epoch 12, but training has only 10 epochs"):
        schedule(context, 10, AgpEpochs(end=12))


def test_an_end_without_room_is_refused(context):
    with pytest.raises(SparsityError, match="fewer than two steps"):
        schedule(context, 10, AgpEpochs(start=4, end=5))


def test_iterations_are_counted_over_the_whole_run(context):
    # 96 training images in batches of 16: six steps an epoch
    assert schedule(context, 5, AgpIterations(every=2)) == sparsity.AgpIterations(30, 0.8, 0.1, 0.5, 3.0, 2)


def test_one_shot_and_a_target_of_nothing(context):
    assert schedule(context, 5, OneShot()) == sparsity.OneShot(0.8)
    assert schedule(context, 5, AgpEpochs(), target=0.0) == sparsity.OneShot(0.0)


def test_a_ramp_over_all_iterations_reaches_its_target(context):
    found = schedule(context, 5, AgpIterations(end=1.0, every=7))
    due = [step for step in range(30) if found.due(step)]
    assert due[-1] == 29 and found.sparsity_at(29) == 0.8


def test_a_start_beyond_training_is_refused(context):
    with pytest.raises(RecipeError, match="but training has only 4 epochs"):
        schedule(context, 4, AgpEpochs(start=6))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", sparsity.Linear(0, 6, 1, 0.0, 0.8)),
        ("cosine", sparsity.Cosine(0, 6, 1, 0.0, 0.8)),
        ("exponential", sparsity.Exponential(0, 6, 1, 0.0, 0.8)),
        ("polynomial", sparsity.Polynomial(0, 6, 1, 0.0, 0.8, exponent=2.0)),
        ("cubic_steps", sparsity.CubicSteps(0, 1, 5, 0.0, 0.8)),
    ],
)
def test_ramps_rise_over_sixty_percent_of_the_epochs(context, kind, expected):
    assert schedule(context, 10, Ramp(kind=kind, exponent=2.0)) == expected
    assert schedule(context, 1, Ramp(kind=kind)) == sparsity.OneShot(0.8)


def test_ramps_in_iterations(context):
    # 5 epochs of 6 steps; 60 % of them are 18
    found = schedule(context, 5, Ramp(kind="linear", unit="iteration", every=4, initial=0.2))
    assert found == sparsity.Linear(0, 18, 4, 0.2, 0.8, "iteration")
    assert [t for t in range(30) if found.due(t)] == [0, 4, 8, 12, 16]
    with pytest.raises(RecipeError, match="ends at iteration 31, but training has only 30 iterations"):
        schedule(context, 5, Ramp(kind="linear", unit="iteration", end=31))


@pytest.mark.parametrize(("last_step", "due"), [("n", [2, 4, 6, 8]), ("n-1", [2, 4, 6])])
def test_steps_of_a_cubic(context, last_step, due):
    found = schedule(context, 9, Ramp(kind="cubic_steps", start=2, every=2, steps=3, last_step=last_step))
    assert [t for t in range(20) if found.due(t)] == due and found.sparsity_at(due[-1]) == 0.8
    with pytest.raises(RecipeError, match="ends at epoch 9, but training has only 8 epochs"):
        schedule(context, 8, Ramp(kind="cubic_steps", start=2, every=2, steps=3))


@pytest.mark.parametrize("last_step", ["n", "n-1"])
def test_a_cubic_with_an_end_has_as_many_steps_as_fit(context, last_step):
    found = schedule(context, 10, Ramp(kind="cubic_steps", end=8, every=3, last_step=last_step))
    assert [t for t in range(20) if found.due(t)] == [0, 3, 6] and found.sparsity_at(6) == 0.8


def test_fixed_levels_within_the_training(context):
    assert schedule(context, 5, FixedLevels(at=(1, 4))) == sparsity.FixedLevels(0.8, (1, 4))
    with pytest.raises(RecipeError, match="ends at epoch 6, but training has only 5 epochs"):
        schedule(context, 5, FixedLevels(at=(1, 5)))


def test_random_levels_have_the_seed_of_the_recipe(context):
    found = schedule(context, 5, RandomLevel(low=0.2, high=0.6, end=5), target=0.6)
    assert found == sparsity.RandomLevel(0.2, 0.6, 0, 5, 1, seed=0) and found.final == 0.6


@pytest.mark.parametrize("asked", [AgpEpochs(), AgpIterations(), Ramp(kind="cosine"), FixedLevels(), OneShot()])
def test_without_training_all_zeros_come_at_once(context, asked):
    assert schedule(context, 0, asked) == sparsity.OneShot(0.8)


def test_globs_become_layers_and_the_star_is_the_default(context):
    names = [layer.name for layer in sparsity.layers_of(context.network)]
    found = by_layer(context.network, {names[0]: 0.3, "*": 0.1})
    assert found == {name: 0.3 if name == names[0] else 0.1 for name in names}
    with pytest.raises(SparsityError, match=r"unknown layer or glob 'no\.\*'"):
        by_layer(context.network, {"no.*": 0.1})


def test_threshold_rules_by_layer(context):
    names = [layer.name for layer in sparsity.layers_of(context.network)]
    fixed = thresholds(context, 9, Thresholds(thresholds={"*": 0.1}, of="max", start=1, every=2))
    assert fixed == sparsity.FixedThresholds(thresholds=dict.fromkeys(names, 0.1), of="max", start=1, end=9, every=2), (
        "without an end it is the end of the run"
    )
    asked = Thresholds(sensitivities={names[1]: 0.5}, end=4)
    assert thresholds(context, 9, asked) == sparsity.Sensitivities(sensitivities={names[1]: 0.5}, end=4)
    asked = Splice(sensitivities={names[1]: 0.5}, low=0.8, high=1.2, growth=0.1)
    assert thresholds(context, 9, asked) == sparsity.SpliceRule(
        sensitivities={names[1]: 0.5}, low=0.8, high=1.2, growth=0.1, end=9
    )
    asked = Baidu(q=0.2, offset=3, end=9, slope_mult=1.5)
    assert thresholds(context, 9, asked) == sparsity.BaiduRamp(q=0.2, offset=3, end=9, slope_mult=1.5)
    with pytest.raises(RecipeError, match="ends at epoch 9, but training has only 8 epochs"):
        thresholds(context, 8, asked)
    with pytest.raises(RecipeError, match="schedule one_shot has levels and no thresholds"):
        thresholds(context, 8, OneShot())
