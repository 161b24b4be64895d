"""A schedule as a whole: its sections, its network, its removers."""

import pytest

from secateur.errors import RecipeError
from secateur.recipe.importers import import_text

SCHEDULE = """\
# compress_classifier.py -a=resnet20_cifar --epochs=4 --lr=0.1 -b 64 --momentum 0.8 --wd=0.0005 --pretrained ../data
version: 1
pruners:
  p: {class: SparsityLevelParameterPruner, levels: {module.layer1.0.conv1.weight: 0.5}}
extensions:
  thin: {class: FilterRemover, thinning_func_str: remove_filters, arch: resnet20_cifar, dataset: cifar10}
policies:
  - pruner: {instance_name: p}
    epochs: [0]
"""
THIN = "  - extension: {instance_name: thin}\n    epochs: [2]\n"


def said(imported):
    return "\n".join(map(str, imported.notes))


def test_the_command_line_says_how_it_is_trained():
    recipe = import_text(SCHEDULE, "f.yaml").recipe
    training = recipe.stages[1].training
    assert (training.epochs, training.learning_rate, training.batch_size) == (4, 0.1, 64)
    assert (training.momentum, training.weight_decay, training.nesterov) == (0.8, 0.0005, False)
    assert (recipe.model.name, recipe.model.weights, recipe.data.name) == ("resnet20b_cifar10", "pretrained", "cifar10")


def test_stages_end_as_those_of_the_command_line_do():
    recipe = import_text(SCHEDULE, "f.yaml").recipe
    assert [stage.stage for stage in recipe.stages] == [
        "evaluate", "sparsify", "evaluate", "export", "benchmark", "report",
    ]  # fmt: skip


def test_a_remover_names_the_network_where_no_command_line_does():
    text = SCHEDULE.split("\n", 1)[1] + THIN
    assert import_text(text, "f.yaml").recipe.model.name == "resnet20b_cifar10"


def test_a_remover_for_another_network_is_noted():
    text = SCHEDULE.replace("arch: resnet20_cifar,", "arch: resnet56_cifar,") + THIN
    assert "'resnet56_cifar' is not the network of the command line" in said(import_text(text, "f.yaml"))


def test_what_is_taken_out_is_said():
    assert "f.yaml:6: channels that are entirely zero are taken out" in said(import_text(SCHEDULE + THIN, "f.yaml"))


def test_an_instance_that_nobody_uses_is_noted():
    assert "f.yaml:6: no policy uses 'thin'" in said(import_text(SCHEDULE, "f.yaml"))


def test_layers_of_mobilenet_have_our_names():
    text = SCHEDULE.replace("resnet20_cifar", "mobilenet").replace(
        "module.layer1.0.conv1.weight", "module.model.4.3.weight"
    )
    imported = import_text(text, "f.yaml")
    assert imported.recipe.model.name == "mobilenet_v1_100_imagenet"
    assert imported.recipe.model.options == {"padding": "torch", "activation": "relu", "bn_eps": 1e-5}
    assert imported.recipe.stages[1].parts[0].layers == ("blocks.3.pointwise",)
    other = import_text(text, "f.yaml", model="mine:network")
    assert other.recipe.stages[1].parts[0].layers == ("model.4.3",) and other.recipe.model.weights is None


def test_unknown_flags_of_a_comment_are_noted_and_not_refused():
    text = SCHEDULE.replace("--epochs=4", "--epochs=4 --strange 3")
    assert "f.yaml:1: the flag 'strange' of the published command line is not known" in said(
        import_text(text, "f.yaml")
    )


FAULTS = [
    (SCHEDULE.replace("pruners:", "pruner:"), "unknown key 'pruner' in a Distiller schedule. Did you mean 'pruners'?"),
    (SCHEDULE.replace("FilterRemover", "FilterRemovr") + THIN, "Did you mean 'FilterRemover'?"),
    (SCHEDULE.replace("remove_filters", "remove_channels") + THIN, "FilterRemover and 'remove_channels' contradict"),
    (SCHEDULE.replace("dataset:", "datset:") + THIN, "unknown key 'datset'"),
    (SCHEDULE.replace("--epochs=4", "--epochs=x"), "'epochs' in the command is a number, found 'x'"),
    ("quantizers: {q: {class: DorefaQuantizer, bits_weights: 4}}\n", "'policies' must say when"),
    ("pruners: {}\n", "has 'policies'"),
]


@pytest.mark.parametrize(("text", "words"), FAULTS, ids=[fault[1][:30] for fault in FAULTS])
def test_a_faulty_schedule_is_a_sentence(text, words):
    with pytest.raises(RecipeError) as caught:
        import_text(text, "f.yaml", "resnet18", "digits")
    assert words in str(caught.value)


def test_quantizers_that_no_policy_uses_are_noted():
    text = SCHEDULE + "quantizers: {q: {class: DorefaQuantizer}}\n"
    assert "f.yaml:10: no policy uses 'q', so it does nothing." in said(import_text(text, "f.yaml"))
