import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny_networks
from secateur.errors import RecipeError
from secateur.pipeline import Context
from secateur.pipeline.judge import Judge, check_images, held_out, shared_out
from secateur.recipe import Search, build_recipe
from secateur.training import evaluate


def context_of(tmp_path, **data):
    value = {"model": {"name": "tiny_networks:network"}, "data": {"name": "tiny_networks:images", **data}, "seed": 3}
    return Context.of(build_recipe(value | {"stages": [{"stage": "evaluate"}]}), tmp_path)


def pixels_of(images):
    return {np.asarray(images[index][0]).tobytes() for index in range(len(images))}


@pytest.mark.parametrize(("count", "limit", "expected"), [(10, None, 10), (500, None, 19), (10, 40, 8)])
def test_images_that_judge_are_training_images_and_not_trained_on(count, limit, expected):
    images = tiny_networks.images()
    found = held_out(images, count, limit)
    assert (len(found.test), len(found.train)) == (expected, (limit or 96) - expected)
    judged, trained = pixels_of(found.test), pixels_of(found.train)
    assert not judged & trained
    assert judged | trained <= pixels_of(images.train)
    assert (found.classes, found.flip) == (images.classes, images.flip)


def test_images_are_chosen_by_chance_and_by_seed():
    images = tiny_networks.images()
    # Four classes in turn: every fifth image would do, every fourth would show one class only.
    classes = {held_out(images, 12).test[index][1] for index in range(12)}
    assert len(classes) == 4
    assert pixels_of(held_out(images, 12, seed=1).test) != pixels_of(held_out(images, 12, seed=2).test)


@given(st.integers(1, 500), st.integers(1, 64), st.integers(1, 3000))
def test_steps_are_shared_out(iterations, batch_size, images):
    epochs, limit = shared_out(iterations, batch_size, images)
    steps = epochs * -(-limit // batch_size)
    assert limit <= images
    assert iterations <= steps < iterations + epochs


def test_without_steps_the_network_is_judged_as_it_is(tmp_path):
    context = context_of(tmp_path)
    judge = Judge(context, Search(iterations=0, images=16), tmp_path)
    expected = evaluate(context.network, judge.images, context.preprocessing).top1 / 100
    assert judge.accuracy_of(context.network) == expected


def test_some_steps_help_and_leave_nothing_behind(tmp_path):
    context = context_of(tmp_path)
    settings = Search(iterations=60, images=16, batch_size=16, learning_rate=0.01)
    judge = Judge(context, settings, tmp_path / "search")
    before = evaluate(context.network, judge.images, context.preprocessing).top1 / 100
    assert judge.accuracy_of(context.network) > before
    assert not list((tmp_path / "search").iterdir())


def test_a_loss_that_is_no_number_counts_as_nothing(tmp_path, capsys):
    context = context_of(tmp_path)
    settings = Search(iterations=12, images=16, batch_size=16, learning_rate=1e30)
    assert Judge(context, settings, tmp_path).accuracy_of(context.network) == 0.0
    assert "counts as accuracy 0" in capsys.readouterr().err


def test_too_few_images(tmp_path):
    with pytest.raises(RecipeError, match="too few"):
        check_images(context_of(tmp_path, train_limit=4))
