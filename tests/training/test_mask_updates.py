"""The hook of a sparsifier: it forgets the optimiser's memory where the rule says so, and goes with its own model."""

import pytest
import torch
from torch import nn

from secateur.errors import TrainingError
from secateur.recipe import MaskRule, Training
from secateur.sparsity import FixedLevels, Sparsifier, plan_sparsity, stored_weight
from secateur.training import Row
from secateur.training.hooks import Scene
from secateur.training.mask_updates import MaskUpdates

STEPS = 2


def scene(model, optimizer, epochs=3):
    return Scene(model, optimizer, None, Training(epochs=epochs), STEPS, 0)


def trained(reset, steps, optimizer=torch.optim.SGD, **settings):
    """Weights 8 4 2 1 with gradient 1 on those that are kept, half of them; masks at epochs 0 and 1."""
    layer = nn.Linear(4, 1, bias=False)
    model = nn.Sequential(layer)
    stored_weight(layer).data[:] = torch.tensor([[8.0, 4.0, 2.0, 1.0]])
    plan = plan_sparsity(model, 0.5, "unstructured", base="selected", include_classifier=True)
    rule = MaskRule(reset_optimizer=reset)
    hook = MaskUpdates(Sparsifier(model, plan, FixedLevels(0.5, (0, 1)), rule=rule))
    made = optimizer(model.parameters(), **settings)
    hook.begin(scene(model, made))
    for step in range(steps):
        hook.before_step(step)
        made.zero_grad()
        layer(torch.ones(1, 4)).sum().backward()
        hook.after_backward(step)
        made.step()
        hook.after_step(step)
    return stored_weight(layer).flatten().tolist()


@pytest.mark.parametrize(
    ("reset", "expected"),
    # 8 and 4 walk to 5.5 and 1.5 with velocities 1 and 1.5; then 2 comes in the place of 1.5, which only momentum moves
    [(False, [5.5 - 1.75, 1.5 - 0.75, 2.0 - 1.0, 1.0]), (True, [5.5 - 1.0, 1.5, 2.0 - 1.0, 1.0])],
)
def test_momentum_is_forgotten_when_masks_change(reset, expected):
    assert trained(reset, 3, lr=1.0, momentum=0.5) == expected


def test_adam_starts_again_too():
    """The first step of Adam is the learning rate exactly, up to its epsilon."""
    two = trained(True, 2, torch.optim.Adam, lr=0.25)
    three = trained(True, 3, torch.optim.Adam, lr=0.25)
    assert two[0] - three[0] == pytest.approx(0.25, rel=1e-6)


def test_the_sparsifier_of_another_model_is_a_sentence():
    model, other = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 4))
    plan = plan_sparsity(model, 0.5, "unstructured", base="selected", include_classifier=True)
    hook = MaskUpdates(Sparsifier(model, plan))
    with pytest.raises(TrainingError, match="built for another model"):
        hook.begin(scene(other, torch.optim.SGD(other.parameters(), lr=0.1)))
    hook.close()


def test_whether_an_epoch_is_settled():
    model = nn.Sequential(nn.Linear(4, 4))
    plan = plan_sparsity(model, 0.5, "unstructured", base="selected", include_classifier=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def settled(**rule):
        hook = MaskUpdates(Sparsifier(model, plan, FixedLevels(0.5, (1,)), rule=MaskRule(**rule)))
        hook.begin(scene(model, optimizer))
        return [hook.settled(Row(epoch, 0.1, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0)) for epoch in range(3)]

    assert settled() == [False, True, True]
    assert settled(discard_after_step=True) == [False] * 3
    assert settled(keep_at_end=False) == [False, False, True]
