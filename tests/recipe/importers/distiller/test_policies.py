"""Policies: one instance each, and epochs that make sense."""

import pytest

from secateur.errors import RecipeError
from secateur.recipe.document import parse_document
from secateur.recipe.importers import Reading
from secateur.recipe.importers.distiller.policies import read_policies

HEAD = "pruners: {prune: {}}\nlr_schedulers: {rate: {}}\npolicies:\n"


def read(text):
    reading = Reading(parse_document(HEAD + text, "f.yaml"))
    return read_policies(reading, reading.document.value)


def test_a_range_is_exclusive_and_has_a_frequency():
    (policy,) = read("- pruner: {instance_name: prune}\n  starting_epoch: 1\n  ending_epoch: 8\n  frequency: 3\n")
    assert policy.epochs == (1, 4, 7) and (policy.start, policy.end, policy.every) == (1, 8, 3)


@pytest.mark.parametrize(
    ("listed", "epochs", "every"), [("[4]", (4,), 1), ("[6, 2, 4]", (2, 4, 6), 2), ("[1, 2, 5]", (1, 2, 5), 0)]
)
def test_a_list_of_epochs(listed, epochs, every):
    (policy,) = read(f"- pruner: {{instance_name: prune}}\n  epochs: {listed}\n")
    assert policy.epochs == epochs and policy.every == every and policy.end == epochs[-1] + 1


FAULTS = [
    (
        "- pruner: {instance_name: prun}\n  epochs: [0]\n",
        4,
        "unknown instance of pruners 'prun'. Did you mean 'prune'?",
    ),
    ("- pruner: {instance_name: prune}\n  epochs: [0]\n  starting_epoch: 0\n", 5, "contradict each other"),
    ("- pruner: {instance_name: prune}\n  starting_epoch: 0\n  ending_epoch: 3\n", 4, "needs the key 'frequency'"),
    (
        "- pruner: {instance_name: prune}\n  starting_epoch: 3\n  ending_epoch: 3\n  frequency: 1\n",
        6,
        "'ending_epoch' (3) lies after 'starting_epoch' (3); it is exclusive",
    ),
    (
        "- pruner: {instance_name: prune}\n  starting_epoch: 0\n  ending_epoch: 3\n  frequency: 4\n",
        7,
        "is at most the 3 epochs of the policy",
    ),
    (
        "- pruner: {instance_name: prune}\n  starting_epoch: 0\n  ending_epoch: 3\n  frequency: 0\n",
        7,
        "is at least 1, found 0",
    ),
    ("- pruner: {instance_name: prune}\n  epochs: []\n", 5, "is a list of epochs"),
    ("- pruner: {instance_name: prune}\n  epochs: [-1]\n", 5, "is a list of epochs"),
    ("- pruner: {instance_name: prune}\n  epochs: [0]\n  epoch: 3\n", 6, "unknown key 'epoch' in policy 1"),
    ("- prunr: {instance_name: prune}\n  epochs: [0]\n", 4, "unknown key 'prunr' in policy 1. Did you mean 'pruner'?"),
    ("- pruner: {instance_name: prune}\n  lr_scheduler: {instance_name: rate}\n  epochs: [0]\n", 4, "names one of"),
    ("- pruner: {name: prune}\n  epochs: [0]\n", 4, "needs the key 'instance_name'"),
    ("- 3\n", 4, "policy 1 is a mapping of keys"),
]


@pytest.mark.parametrize(("text", "line", "words"), FAULTS, ids=[fault[2][:30] for fault in FAULTS])
def test_a_faulty_policy_is_a_sentence_with_its_line(text, line, words):
    with pytest.raises(RecipeError) as caught:
        read(text)
    assert str(caught.value).startswith(f"f.yaml:{line}: ") and words in str(caught.value)
