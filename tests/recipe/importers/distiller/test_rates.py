"""Learning-rate policies give every epoch the rate that they say, whatever way our recipe says it."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import RecipeError
from secateur.recipe.importers import import_text
from secateur.training.learning_rate import learning_rate

HEAD = """\
# compress_classifier.py -a=resnet20_cifar --epochs=30 --lr=0.1 --pretrained
pruners:
  p: {class: SparsityLevelParameterPruner, levels: {module.layer1.0.conv1.weight: 0.5}}
extensions:
  thin: {class: FilterRemover}
lr_schedulers:
  lr: {%s}
policies:
  - pruner: {instance_name: p}
    epochs: [0]
"""


def lr_policy(start, end, every=1, name="lr"):
    return (
        f"  - lr_scheduler: {{instance_name: {name}}}\n    starting_epoch: {start}\n    ending_epoch: {end}\n"
        f"    frequency: {every}\n"
    )


def rates(text) -> list[float]:
    """Rate of every epoch of the run, as our training has it."""
    found: list[float] = []
    for stage in import_text(text, "f.yaml").recipe.stages:
        training = getattr(stage, "training", None)
        if training is not None:
            found += [learning_rate(training, epoch, 1) for epoch in range(training.epochs)]
    return found


def training_of(text):
    return import_text(text, "f.yaml").recipe.stages[1].training


CASES = {
    "StepLR": ("class: StepLR, step_size: 4, gamma: 0.5", lambda n: 0.5 ** (n // 4)),
    "MultiStepLR": ("class: MultiStepLR, milestones: [3, 8], gamma: 0.2", lambda n: 0.2 ** ((n >= 3) + (n >= 8))),
    "MultiStepMultiGammaLR": (
        "class: MultiStepMultiGammaLR, milestones: [3, 8], gammas: [0.1, 2.0]",
        lambda n: 0.1 ** (n >= 3) * 2.0 ** (n >= 8),
    ),
    "ExponentialLR": ("class: ExponentialLR, gamma: 0.9", lambda n: 0.9**n),
    "PolynomialLR": ("class: PolynomialLR, T_max: 20, power: 2", lambda n: (1 - n / 20) ** 2),
    "CosineAnnealingLR": ("class: CosineAnnealingLR, T_max: 20", lambda n: (1 + math.cos(math.pi * n / 20)) / 2),
}


BOUNDED = ("PolynomialLR", "CosineAnnealingLR")  # rise again, or end, after T_max
RANGES = [(0, 20, 1), (5, 25, 1), (0, 300, 1), (4, 16, 1), (6, 20, 3)]


@pytest.mark.parametrize(
    ("name", "start", "end", "every"),
    [(name, *when) for name in CASES for when in RANGES if when[1] <= 30 or name not in BOUNDED],
)
@pytest.mark.parametrize("cut", [None, 9])
def test_every_epoch_has_the_rate_of_the_policy(name, start, end, every, cut):
    keys, factor = CASES[name]
    text = HEAD % keys + lr_policy(start, end, every)
    if cut is not None:
        text += f"  - extension: {{instance_name: thin}}\n    epochs: [{cut}]\n"
    acting = range(start, end, every)
    expected = [0.1 * factor(min(sum(at < epoch for at in acting), len(acting) - 1)) for epoch in range(30)]
    assert rates(text) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("keys", "start", "end", "decay"),
    [
        ("class: ExponentialLR, gamma: 0.9", 5, 12, "exponential"),
        ("class: CosineAnnealingLR, T_max: 20", 4, 24, "cosine"),
        ("class: PolynomialLR, T_max: 20, power: 2", 4, 24, "polynomial"),
        ("class: StepLR, step_size: 4", 0, 20, "step"),
        ("class: ReduceLROnPlateau, factor: 0.3, patience: 2", 3, 20, "plateau"),
    ],
)
def test_our_own_decays_keep_their_names(keys, start, end, decay):
    training = training_of(HEAD % keys + lr_policy(start, end))
    assert training.decay == decay
    if decay != "step":
        assert (training.decay_start, training.decay_end) == (start, end)


def test_plateau_has_factor_and_patience_and_says_what_it_leaves_out():
    imported = import_text(HEAD % "class: ReduceLROnPlateau, factor: 0.3, patience: 2, min_lr: 0.1" + lr_policy(0, 30))
    training = imported.recipe.stages[1].training
    assert (training.step_gamma, training.decay_patience) == (0.3, 2)
    assert "'min_lr' is not imported" in str([str(note) for note in imported.notes])


def test_without_a_policy_the_rate_is_constant():
    assert rates(HEAD % "class: StepLR, step_size: 4") == [0.1] * 30


def test_two_policies_follow_each_other():
    text = HEAD % "class: StepLR, step_size: 2, gamma: 0.5" + lr_policy(0, 6) + lr_policy(10, 30, name="two")
    text = text.replace("lr_schedulers:\n", "lr_schedulers:\n  two: {class: ExponentialLR, gamma: 0.9}\n")
    expected = [0.1 * 0.5 ** (min(e, 5) // 2) * 0.9 ** max(e - 10, 0) for e in range(30)]
    assert rates(text) == pytest.approx(expected)


def test_policies_in_the_same_epochs_contradict_each_other():
    text = HEAD % "class: StepLR, step_size: 2" + lr_policy(0, 10) + lr_policy(9, 20)
    with pytest.raises(RecipeError, match=r"f\.yaml:15: .*contradict each other in epoch 9"):
        rates(text)


def test_a_policy_that_starts_late_says_how_it_counts():
    imported = import_text(HEAD % "class: StepLR, step_size: 4" + lr_policy(5, 20), "f.yaml")
    assert "StepLR counts epochs from its own start, 5" in "\n".join(map(str, imported.notes))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("class: StepLRR, step_size: 4", "Did you mean 'StepLR'?"),
        ("class: StepLR", "needs the key 'step_size'"),
        ("class: StepLR, step_size: 0", "at least 1"),
        ("class: ExponentialLR, gama: 0.9", "needs the key 'gamma'"),
        ("class: ExponentialLR, gamma: 0.9, gama: 1", "Did you mean 'gamma'?"),
        ("class: MultiStepMultiGammaLR, milestones: [1], gammas: [0.1, 0.2]", "one factor above 0 for each"),
    ],
)
def test_a_faulty_scheduler_is_a_sentence(keys, words):
    with pytest.raises(RecipeError, match=words):
        rates(HEAD % keys + lr_policy(0, 10))


@given(
    st.sampled_from(sorted(set(CASES) - set(BOUNDED))),
    st.integers(0, 20),
    st.integers(1, 30),
    st.integers(1, 5),
    st.integers(0, 30),
)
@settings(deadline=None, max_examples=60)
def test_rates_are_right_for_any_policy_and_cut(name, start, length, every, cut):
    every = min(every, length)
    keys, factor = CASES[name]
    text = HEAD % keys + lr_policy(start, start + length, every)
    text += f"  - extension: {{instance_name: thin}}\n    epochs: [{cut}]\n"
    acting = range(start, start + length, every)
    expected = [0.1 * factor(min(sum(at < epoch for at in acting), len(acting) - 1)) for epoch in range(30)]
    assert rates(text) == pytest.approx(expected, rel=1e-9)
