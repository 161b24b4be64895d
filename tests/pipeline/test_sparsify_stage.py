"""The schedule that a sparsify stage gets when its recipe leaves things open."""

from pathlib import Path

import pytest

import tiny_networks
from secateur import sparsity
from secateur.errors import RecipeError, SparsityError
from secateur.pipeline import Context
from secateur.pipeline.stages.sparsify import schedule_of
from secateur.recipe import AgpEpochs, AgpIterations, Model, OneShot, Recipe, SparsifyStage, Training


@pytest.fixture
def context():
    stage = SparsifyStage()
    recipe = Recipe(model=Model(name="tiny_networks:network"), stages=(stage,))
    return Context(recipe, Path("unused"), tiny_networks.images(), tiny_networks.network())


def schedule(context, epochs, asked, target=0.8):
    stage = SparsifyStage(schedule=asked, training=Training(epochs=epochs, batch_size=16))
    return schedule_of(context, stage, target)


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
