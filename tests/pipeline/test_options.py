"""A recipe from options: every choice that `secateur compress` makes for the user."""

from dataclasses import replace

import pytest

import tiny_networks
from secateur.errors import RecipeError
from secateur.pipeline.options import Options, recipe_of
from secateur.recipe import parse_recipe, recipe_to_yaml

IMAGES = tiny_networks.images()


def stages(model="resnet20_cifar10", images=IMAGES, **options):
    return {stage.stage: stage for stage in recipe_of(model, Options(**options), images).stages}


def test_a_network_without_weights_is_trained_first():
    assert list(stages()) == ["train", "evaluate", "sparsify", "export", "benchmark", "report"]
    assert stages()["train"].training.epochs == 15


def test_a_network_with_weights_is_not():
    assert "train" not in stages(weights="file.safetensors")


def test_library_networks_take_their_published_weights():
    assert recipe_of("resnet18", Options(), IMAGES).model.weights == "pretrained"
    assert recipe_of("resnet18", Options(weights="none"), IMAGES).model.weights is None


def test_without_training_images_zeros_are_made_at_once():
    found = stages(images=replace(IMAGES, train=None))
    assert "train" not in found
    assert found["sparsify"].training.epochs == 0
    assert found["sparsify"].distillation is None


def test_epochs_without_training_images_are_refused():
    with pytest.raises(RecipeError, match="has no training images"):
        stages(images=replace(IMAGES, train=None), epochs=3)


def test_sparse_training_takes_a_fifth_of_the_learning_rate():
    found = stages()
    assert found["sparsify"].training.learning_rate == pytest.approx(found["train"].training.learning_rate / 5)
    assert stages(learning_rate=0.3)["sparsify"].training.learning_rate == 0.3


def test_options_reach_the_recipe():
    found = stages(pattern="1x8-fine", sparsity=0.7, base="selected", exclude=("layer1.*",), schedule="one_shot",
                   finetune_epochs=2, distill=False, batch=4, batches=(1, 8))  # fmt: skip
    sparsify = found["sparsify"]
    assert (sparsify.pattern, sparsify.sparsity, sparsify.base) == ("1x8-fine", 0.7, "selected")
    assert sparsify.exclude == ("layer1.*",) and sparsify.schedule.kind == "one_shot"
    assert sparsify.distillation is None and found["finetune"].training.epochs == 2
    assert found["export"].batch == 4 and found["benchmark"].batches == (1, 8)


def test_a_value_out_of_range_is_told_as_in_a_recipe():
    with pytest.raises(RecipeError, match=r"'sparsity' in stage 'sparsify'.*found 1\.5"):
        stages(sparsity=1.5)
    with pytest.raises(RecipeError, match="'workers'"):
        stages(workers=-1)


def test_the_recipe_can_be_saved_and_run_again():
    recipe = recipe_of("resnet20_cifar10", Options(finetune_epochs=1), IMAGES)
    assert parse_recipe(recipe_to_yaml(recipe)) == recipe


def test_channels_alone_make_no_zeros() -> None:
    recipe = recipe_of("resnet20_cifar10", Options(remove_channels=0.4, round_to=4, epochs=3), IMAGES)
    assert [stage.stage for stage in recipe.stages if "sparsify" in stage.stage] == []
    found = next(stage for stage in recipe.stages if stage.stage == "remove_channels")
    assert (found.target, found.base, found.round_to, found.training.epochs) == (0.4, "macs", 4, 3)


def test_channels_and_a_sparsity_are_both_done_channels_first() -> None:
    recipe = recipe_of("resnet20_cifar10", Options(remove_channels=0.4, sparsity=0.5), IMAGES)
    kinds = [stage.stage for stage in recipe.stages]
    assert kinds.index("remove_channels") < kinds.index("sparsify")


def test_without_a_sparsity_the_pattern_decides() -> None:
    assert stages("resnet20_cifar10")["sparsify"].sparsity is None
    assert stages("resnet20_cifar10", sparsity=0.3)["sparsify"].sparsity == 0.3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"levels": (0.3, 0.5), "sparsity": 0.9}, "'sparsity' would do nothing: levels are"),
        ({"round_to": 8}, "'round_to' would do nothing: no channels"),
        ({"channels_criterion": "fpgm"}, "'channels_criterion' would do nothing"),
        ({"remove_channels": 0.3, "rearrange": True}, "'rearrange' would do nothing: channels are removed"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options, words):
    with pytest.raises(RecipeError, match=words):
        recipe_of("resnet20_cifar10", Options(weights="none", **options), IMAGES)
