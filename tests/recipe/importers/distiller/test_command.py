"""Command lines of compress_classifier.py."""

import pytest

from secateur.errors import RecipeError
from secateur.recipe.importers import import_command

BASE = "python compress_classifier.py -a resnet20_cifar ../data "
SCHEDULE = """\
# compress_classifier.py -a resnet56_cifar --epochs 90
pruners: {p: {class: SparsityLevelParameterPruner, levels: {module.layer1.0.conv1.weight: 0.5}}}
policies:
  - {pruner: {instance_name: p}, epochs: [0]}
"""


def said(imported):
    return "\n".join(map(str, imported.notes))


def test_plain_training():
    recipe = import_command(BASE + "-b 64 --epochs 3 --lr 0.05 --resume-from w.pth").recipe
    training = recipe.stages[0].training
    assert recipe.stages[0].stage == "train" and recipe.model.weights == "w.pth"
    assert (training.epochs, training.batch_size, training.learning_rate, training.decay) == (3, 64, 0.05, "constant")


def test_evaluation_and_thinning():
    assert [s.stage for s in import_command(BASE + "-e").recipe.stages] == ["evaluate"]
    assert import_command(BASE + "--thinnify").recipe.stages[0].stage == "thin"


def test_a_schedule_is_read_with_the_flags_of_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(SCHEDULE, encoding="utf-8")
    recipe = import_command(BASE + "--compress=s.yaml --epochs 5 --kd-teacher resnet56_cifar --kd-temp 3").recipe
    (stage,) = [stage for stage in recipe.stages if stage.stage == "sparsify"]
    assert recipe.model.name == "resnet20b_cifar10" and stage.training.epochs == 5
    assert (stage.distillation.temperature, stage.distillation.weight, stage.distillation.task_weight) == (3, 0.5, 0.5)
    assert stage.distillation.teacher.name == "resnet56b_cifar10"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--qe-mode sym", "'qe-mode' means nothing without --quantize-eval"),
        ("--amc-protocol x", "'amc-protocol' is not imported"),
        ("--greedy", "'greedy' is not imported"),
        ("--sense element", "'sensitivity' is not imported"),
        ("--vs 0.2", "'vs' is not imported: all training and test images are used"),
        ("--kd-teacher-wt 0.3 --kd-teacher resnet56_cifar", "'kd-teacher-wt' is not imported"),
    ],
)
def test_what_is_not_imported_is_said(flags, words):
    assert words in said(import_command(BASE + flags))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (BASE + "--epoch 3", "unknown flag 'epoch' in the command. Did you mean 'epochs'?"),
        (BASE + "--epochs three", "'epochs' in the command is a number, found 'three'"),
        (BASE + "--compress missing.yaml", "--compress: missing.yaml: the recipe cannot be read"),
        ("python compress_classifier.py -a resnet18", "does not say which images"),
    ],
)
def test_a_faulty_command_is_a_sentence(command, words):
    with pytest.raises(RecipeError) as caught:
        import_command(command)
    assert words in str(caught.value)
