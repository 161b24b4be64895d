"""Command lines of 1xN, with the flags of its program and of its README."""

import pytest

from secateur.errors import RecipeError
from secateur.recipe.importers import import_command

BASE = "python imagenet.py --arch mobilenet_v2 --data_path DIR --pretrained_model w.pth "


def said(imported):
    return "\n".join(map(str, imported.notes))


def stage_of(command):
    (stage,) = [s for s in import_command(command).recipe.stages if s.stage in ("sparsify", "train")]
    return stage


def test_defaults_are_those_of_the_program():
    stage = stage_of(BASE + "--conv_type BlockL1Conv")
    assert (stage.pattern, stage.criterion, stage.sparsity, stage.base) == ("1x16", "magnitude", 0.5, "selected")
    assert (stage.rounding, stage.ties, stage.schedule.kind, stage.rearrange) == ("floor", "exact", "one_shot", False)
    training = stage.training
    assert (training.epochs, training.batch_size, training.learning_rate, training.weight_decay) == (
        180,
        256,
        0.01,
        4e-5,
    )
    assert (training.momentum, training.warmup_epochs, training.decay, training.label_smoothing) == (
        0.9,
        5,
        "cosine",
        0,
    )
    assert not (stage.include_first or stage.include_depthwise or stage.include_classifier)


@pytest.mark.parametrize(
    ("conv", "pattern", "criterion"),
    [
        ("BlockL1Conv --N 4", "1x4", "magnitude"),
        ("BlockRandomConv --N 8", "1x8", "random"),
        ("UnstructureConv", "unstructured", "magnitude"),
        ("StructureConv", "filter", "l1"),
        ("BlockL1Conv --N 1", "kernel", "magnitude"),
    ],
)
def test_kinds_of_convolutions(conv, pattern, criterion):
    stage = stage_of(BASE + f"--conv_type {conv} --pr_target 0.7")
    assert (stage.pattern, stage.criterion, stage.sparsity) == (pattern, criterion, 0.7)


def test_dense_convolutions_are_plain_training():
    assert stage_of(BASE + "--conv_type DenseConv").stage == "train"


def test_rearrangement_and_the_classifier():
    stage = stage_of(BASE + "--conv_type BlockL1Conv --rearrange --full")
    assert stage.rearrange and stage.include_classifier


@pytest.mark.parametrize(
    ("flags", "decay", "steps", "gamma"),
    [
        ("--lr_policy cos", "cosine", (), 0.1),
        ("--lr_policy step --num_epochs 100 --lr_gamma 0.2", "step", (30, 60, 90), 0.2),
        ("--lr_type step --lr_decay_freq 50 --num_epochs 100", "step", (50,), 0.1),
        ("--lr_policy exp --lr_gamma 0.97", "exponential", (), 0.97),
        ("--lr_policy fixed", "constant", (), 0.1),
    ],
)
def test_learning_rates(flags, decay, steps, gamma):
    training = stage_of(BASE + f"--conv_type BlockL1Conv {flags}").training
    assert (training.decay, training.step_epochs, training.step_gamma) == (decay, steps, gamma)


def test_network_images_and_weights():
    recipe = import_command(BASE + "--conv_type BlockL1Conv").recipe
    assert (recipe.model.name, recipe.model.weights, recipe.data.name) == ("mobilenet_v2", "w.pth", "imagefolder:DIR")
    cifar = import_command(
        "python imagenet.py --conv_type BlockL1Conv --arch resnet56_cifar --pretrain_model w.pth"
    ).recipe
    assert (cifar.model.name, cifar.model.weights, cifar.data.name) == ("resnet56_cifar10", "w.pth", "cifar10")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--conv_type BlockL1Conv --evaluate", "--evaluate stands in the README"),
        ("--conv_type BlockL1Conv --sparsity 0.5", "--sparsity belongs to model_tune"),
        ("--conv_type BlockRandomConv", "draws random blocks with replacement"),
        ("--conv_type UnstructureConv", "lets the optimiser change the mask"),
        ("--conv_type StructureConv --rearrange", "--rearrange means nothing to StructureConv"),
        ("--conv_type BlockL1Conv --bn_type LearnedBatchNorm", "'bn_type' is not imported"),
        ("--conv_type BlockL1Conv --optimizer adam", "AdamW is taken"),
    ],
)
def test_traps_are_warned_of(flags, words):
    assert words in said(import_command(BASE + flags))


def test_evaluation():
    for flag in ("--test_only", "--evaluate"):
        recipe = import_command(BASE + f"--conv_type BlockL1Conv {flag}").recipe
        assert [stage.stage for stage in recipe.stages] == ["evaluate"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (BASE + "--conv_type BlokL1Conv", "Did you mean 'BlockL1Conv'?"),
        (BASE + "--conv_type BlockL1Conv --pr_tagret 0.5", "Did you mean 'pr_target'?"),
        (BASE + "--conv_type BlockL1Conv --pr_target 1.0", "is a fraction below 1"),
        (BASE + "--conv_type BlockL1Conv --N four", "is a number, found 'four'"),
        ("python model_tune.py --onnx_path a.onnx --bsr 4 --bsc 1", "`secateur bench a.onnx` does that"),
        ("python model_tune.py --onnx_path a.onnx --sparsity 0.5", "declared a whole number, so that 0.5 fails"),
    ],
)
def test_a_faulty_command_is_a_sentence(command, words):
    with pytest.raises(RecipeError) as caught:
        import_command(command)
    assert words in str(caught.value)
