"""Mask rules on one linear layer, step by step, against trajectories worked out by hand.

The layer has the weights w, the loss is the sum of its outputs for the input x = 1, so every weight that the loss
sees has gradient 1, and SGD with learning rate r takes r off it.
"""

import copy

import pytest
import torch
from torch import nn

from secateur.errors import SparsityError
from secateur.recipe import MaskRule
from secateur.sparsity import (
    AgpEpochs,
    AgpIterations,
    FixedLevels,
    FixedThresholds,
    OneShot,
    Sensitivities,
    Sparsifier,
    SpliceRule,
    ThresholdSparsifier,
    mask_of,
    plan_sparsity,
    stored_weight,
)
from secateur.sparsity.threshold_sparsifier import reached

STEPS = 4  # of an epoch


class Training:
    """What the loop does around a sparsifier, for one layer and SGD."""

    def __init__(self, weights, schedule, rule=None, lr=0.25, optimizer=None, sparsifier=None, **settings):
        self.layer = nn.Linear(len(weights), 1, bias=False)
        self.model = nn.Sequential(self.layer)
        stored_weight(self.layer).data[:] = torch.tensor([weights])
        if sparsifier is None:
            plan = plan_sparsity(self.model, 0.5, "unstructured", base="selected", include_classifier=True)
            self.sparsifier = Sparsifier(self.model, plan, schedule, rule=rule and MaskRule(**rule))
        else:
            self.sparsifier = sparsifier(self.model)
        make = optimizer or torch.optim.SGD
        self.optimizer = make(self.model.parameters(), lr=lr, **settings)
        self.sparsifier.begin_(STEPS)
        self.changed = []
        self.step = 0

    def run(self, steps=1):
        for _ in range(steps):
            if self.sparsifier.before_step_(self.step):
                self.changed.append(self.step)
            self.optimizer.zero_grad()
            self.layer(torch.ones(1, self.layer.in_features)).sum().backward()
            self.sparsifier.after_backward_()
            self.optimizer.step()
            self.sparsifier.after_step_()
            self.step += 1
        return self

    def zeros(self, steps):
        """After each of so many steps, how many weights are zero."""
        return [self.run().weights.count(0.0) for _ in range(steps)]

    @property
    def stored(self):
        return stored_weight(self.layer).flatten().tolist()

    @property
    def weights(self):
        return self.layer.weight.flatten().tolist()


def test_scheduled_masks_stay_between_two_points():
    """3 stays the largest removed one although 4 has fallen below it: masks are chosen at the epoch's first step."""
    training = Training([4.0, -6.0, 3.5, 1.0], FixedLevels(0.5, (0, 1)), lr=0.5)
    training.run(4)
    assert training.stored == [2.0, -8.0, 3.5, 1.0], "removed weights get no gradient"
    assert training.weights == [2.0, -8.0, 0.0, 0.0]
    assert training.changed == [0]
    training.run(1)
    assert training.changed == [0, 4]
    assert training.weights == [0.0, -8.5, 3.0, 0.0], "3.5 is larger than 2: it has come back"


def test_every_step_masks_are_chosen_before_every_forward_pass():
    training = Training([4.0, -6.0, 3.5, 1.0], OneShot(0.5), {"update": "every_step"}, lr=0.5)
    # 4 falls to 3.5, of two equal ones the first goes; the other falls to 3, and 3.5 is back
    training.run(2)
    assert training.stored == [3.5, -7.0, 3.0, 1.0]
    assert training.weights == [0.0, -7.0, 3.0, 0.0]
    training.run(1)
    assert training.stored == [3.0, -7.5, 3.0, 1.0]
    assert training.weights == [3.0, -7.5, 0.0, 0.0]
    assert training.changed == [0, 1, 2]


def test_every_step_follows_the_level_in_force():
    training = Training([4.0, -6.0, 3.5, 1.0], AgpEpochs(1, 4, 1, 0.25, 0.5), {"update": "every_step"}, lr=0.0)
    assert training.zeros(4 * STEPS) == [0] * 4 + [1] * 8 + [2] * 4, ".25 and .46875 are one of four weights, .5 is two"
    assert training.changed == list(range(4, 16))


def test_every_steps_within_an_epoch_but_not_at_its_start():
    training = Training([4.0, -6.0, 3.5, 1.0], AgpEpochs(0, 2, 1, 0.25, 0.5), {"every_steps": 3}, lr=0.0)
    training.run(4 * STEPS)
    assert training.changed == [0, 3, 4, 6], "and not once the schedule is over"


def test_a_backup_keeps_removed_weights_from_momentum_and_decay():
    """Momentum of the steps before the weight was removed, and weight decay, would move it on."""
    settings = {"momentum": 0.5, "weight_decay": 0.5, "lr": 0.5}
    plain = Training([4.0, -6.0, 3.0, 1.0], FixedLevels(0.5, (1,)), **settings).run(5)
    backup = Training([4.0, -6.0, 3.0, 1.0], FixedLevels(0.5, (1,)), {"update": "backup"}, **settings)
    before = backup.run(4).stored
    backup.run(1)
    kept = [weight != 0.0 for weight in backup.weights]
    assert kept.count(True) == 2
    assert [new == old for new, old in zip(backup.stored, before, strict=True)] == [not there for there in kept]
    assert plain.weights == backup.weights
    assert all(a != b for a, b, there in zip(plain.stored, before, kept, strict=True) if not there)


def test_a_backup_gives_a_weight_back_with_its_last_value():
    training = Training([4.0, -6.0, 3.5, 1.0], FixedLevels(0.5, (0, 1)), {"update": "backup"}, lr=0.5, momentum=0.5)
    training.run(4)
    # steps of momentum .5: 1, 1.5, 1.75, 1.875 times .5
    assert training.stored == pytest.approx([4.0 - 3.0625, -6.0 - 3.0625, 3.5, 1.0])
    training.run(1)
    assert training.sparsifier.timing.due(1)
    assert training.weights == pytest.approx([0.0, -9.0625 - 0.96875, 3.5 - 0.5, 0.0], abs=0.0)


def test_all_gradients_move_removed_weights_too():
    training = Training([4.0, -6.0, 3.0, -1.0], OneShot(0.5), {"gradients": "all"}, lr=0.5)
    training.run(2)
    assert training.stored == [3.0, -7.0, 2.0, -2.0]
    assert training.weights == [3.0, -7.0, 0.0, 0.0]
    training.sparsifier.close_()
    training.run(1)
    assert training.stored == [2.5, -7.5, 2.0, -2.0], "the rule ends with the training"


def test_double_copies_give_the_gradient_of_the_masked_network():
    """The loss (sum w)^2 / 2 has the same gradient everywhere: the sum of the weights that are kept."""
    training = Training([4.0, -1.0, 3.0, 2.0], OneShot(0.5), {"gradients": "all"})
    training.sparsifier.before_step_(0)
    (training.layer(torch.ones(1, 4)).sum().square() / 2).backward()
    assert stored_weight(training.layer).grad.flatten().tolist() == [7.0] * 4


def test_the_first_step_runs_without_masks():
    training = Training([4.0, -6.0, 3.0, 1.0], FixedLevels(0.5, (1, 2)), {"skip_first_step": True}, lr=0.0)
    assert training.zeros(3 * STEPS) == [0] * 5 + [2] * 7, "the first of its first epoch, not of later ones"
    assert training.changed == [5, 8]


def test_masks_that_are_discarded_after_their_step():
    training = Training([4.0, -6.0, 3.0, 1.0], FixedLevels(0.5, (0, 1)), {"discard_after_step": True}, lr=0.5)
    training.run(1)
    assert training.weights == training.stored == [3.5, -6.5, 3.0, 1.0], "one step for the kept ones, then all return"
    training.run(3)
    assert training.stored == [2.0, -8.0, 1.5, -0.5]
    training.run(1)
    assert training.stored == [1.5, -8.5, 1.5, -0.5]
    training.sparsifier.finish_(training.step - 1)
    assert training.weights == [0.0, -8.5, 1.5, 0.0], "in the end they hold; of two equal weights the first goes"


def test_masks_that_do_not_outlive_their_schedule():
    training = Training([4.0, -6.0, 3.0, 1.0], AgpEpochs(0, 2, 1, 0.25, 0.5), {"keep_at_end": False}, lr=0.0)
    assert training.zeros(3 * STEPS) == [1] * 4 + [2] * 4 + [0] * 4
    endless = Training([4.0, -6.0, 3.0, 1.0], OneShot(0.5), {"keep_at_end": False}, lr=0.0).run(3)
    assert endless.weights.count(0.0) == 2
    endless.sparsifier.finish_(2)
    assert endless.weights.count(0.0) == 0


def test_a_schedule_in_iterations():
    schedule = AgpIterations(16, 0.5, begin=0.25, end=0.5, exponent=1.0, every=2)
    training = Training([4.0, -6.0, 3.0, 1.0], schedule, lr=0.0)
    zeros = training.zeros(12)
    assert training.changed == [4, 6, 8]
    assert zeros == [0] * 6 + [1] * 2 + [2] * 4, "0, .25 and .5 of four weights"


@pytest.mark.parametrize("rule", [{}, {"update": "every_step"}, {"update": "backup"}, {"gradients": "all"}])
@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
        (torch.optim.Adam, {"weight_decay": 0.1}),
        (torch.optim.AdamW, {}),
    ],
)
def test_zeros_hold_after_every_optimiser_step(rule, optimizer, settings):
    weights = torch.randn(24, generator=torch.Generator().manual_seed(0)).tolist()
    training = Training(weights, AgpEpochs(1, 4, 1, 0.25, 0.5), rule, lr=0.1, optimizer=optimizer, **settings)
    for epoch in range(5):
        for _ in range(STEPS):
            training.run(1)
            level = training.sparsifier.schedule.sparsity_at(epoch)
            assert training.weights.count(0.0) == int(24 * level + 1e-6)


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"update": "every_step"},
        {"update": "backup"},
        {"gradients": "all", "every_steps": 3},
        {"skip_first_step": True},
        {"discard_after_step": True},
        {"keep_at_end": False},
    ],
)
@pytest.mark.parametrize("stop", [1, 4, 5, 9])
def test_going_on_from_any_step_is_the_same(rule, stop):
    """A second sparsifier that gets the first one's tensors goes on as if nothing had happened."""
    weights = torch.randn(12, generator=torch.Generator().manual_seed(1)).tolist()
    schedule, settings = AgpEpochs(0, 3, 1, 0.25, 0.5), {"momentum": 0.9, "weight_decay": 0.1, "lr": 0.1}
    whole = Training(weights, schedule, rule, **settings).run(14)
    first = Training(weights, schedule, rule, **settings).run(stop)
    second = Training(weights, schedule, rule, **settings)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    second.sparsifier.restore_(first.sparsifier.state())
    second.step = stop
    second.run(14 - stop)
    assert second.stored == whole.stored and second.weights == whole.weights
    assert first.changed + second.changed == whole.changed


def by_threshold(rule, **mask):
    def make(model):
        plan = plan_sparsity(model, 0.0, "unstructured", base="selected", include_classifier=True)
        return ThresholdSparsifier(model, plan, rule, MaskRule(**mask))

    return make


def test_thresholds_are_the_weights_own_affair():
    rule = FixedThresholds(thresholds={"0": 2.0}, every=2)
    training = Training([4.0, -6.0, 2.0, 1.0], None, sparsifier=by_threshold(rule), lr=0.5)
    training.run(STEPS)
    assert training.stored == [2.0, -8.0, 2.0, 1.0]
    training.run(STEPS)
    assert training.changed == [0] and training.weights == [0.0, -10.0, 0.0, 0.0], "4 has walked to zero"
    training.run(1)
    assert training.changed == [0, 8] and training.weights == [0.0, -10.5, 0.0, 0.0]
    plan = reached(training.model, training.sparsifier.plan)
    assert plan.levels == {"0": 0.75} and plan.zeros == 3 and plan.sparsity == plan.achieved == 0.75


def test_sigma_is_taken_once_and_survives():
    """Weights 3, -3, 1, -1: sigma = sqrt(20/3) = 2.58.  Taken again after the step it would be another."""
    rule, settings = Sensitivities(sensitivities={"0": 0.5}), {"lr": 0.5}
    whole = Training([3.0, -3.0, 1.0, -1.0], None, sparsifier=by_threshold(rule), **settings).run(2 * STEPS)
    first = Training([3.0, -3.0, 1.0, -1.0], None, sparsifier=by_threshold(rule), **settings).run(STEPS)
    state = first.sparsifier.state()
    assert state["0"].tolist() == pytest.approx([(20 / 3) ** 0.5, 2.0, (4 / 3) ** 0.5])
    second = Training([9.0, 9.0, 9.0, 9.0], None, sparsifier=by_threshold(rule), **settings)
    second.model.load_state_dict(first.model.state_dict())
    second.sparsifier.restore_(state)
    second.step = STEPS
    second.run(STEPS)
    assert second.stored == whole.stored and second.weights == whole.weights
    assert second.sparsifier.state()["0"].equal(state["0"])


def test_splicing_brings_weights_back_only_above_the_high_threshold():
    # mean 2.5, q = 0: a = .4 * 2.5 = 1, b = .8 * 2.5 = 2
    rule = SpliceRule(sensitivities={"0": 0.0}, low=0.4, high=0.8)
    training = Training([-0.5, -0.7, 4.0, 4.8], None, sparsifier=by_threshold(rule, gradients="all"), lr=0.2)
    training.run(STEPS)
    assert training.weights == pytest.approx([0.0, 0.0, 3.2, 4.0], abs=1e-5)
    training.run(1)  # -1.3 and -1.5 lie between the thresholds: they stay away
    assert training.weights[:2] == [0.0, 0.0]
    training.run(2 * STEPS)  # -2.9 and -3.1 at the third choice, and 3.2 has walked to 1.4 and stays
    assert training.changed == [0, 4, 8, 12]
    assert all(weight != 0.0 for weight in training.weights)


def test_a_threshold_for_blocks_compares_their_size():
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    plan = plan_sparsity(model, 0.0, "1x2", base="selected", include_classifier=True)
    for of, kept in (("max", [[1, 1, 0], [1, 1, 0]]), ("mean_abs", [[1, 0, 0], [1, 0, 0]])):
        sparsifier = ThresholdSparsifier(model, plan, FixedThresholds(thresholds={"0": 1.5}, of=of))
        stored_weight(model[0]).data = torch.tensor([[1.0, 0.0, 1.0], [-3.0, 2.0, 1.0]])
        sparsifier.update_(0)
        assert mask_of(model[0]).int().tolist() == kept, of


def test_contradictions_are_sentences():
    model = nn.Sequential(nn.Linear(4, 4))
    plan = plan_sparsity(model, 0.5, "unstructured", base="selected", include_classifier=True)
    with pytest.raises(SparsityError, match="choose one of the two"):
        Sparsifier(model, plan, rule=MaskRule(update="backup", gradients="all"))
    with pytest.raises(SparsityError, match="0: no threshold and no sensitivity is given for it"):
        ThresholdSparsifier(model, plan, FixedThresholds(thresholds={"1": 2.0}))
    fixed = plan_sparsity(model, None, "2:4", base="selected", include_classifier=True)
    with pytest.raises(SparsityError, match="a threshold cannot choose its weights"):
        ThresholdSparsifier(model, fixed, FixedThresholds(thresholds={"0": 2.0}))
    sparsifier = ThresholdSparsifier(model, plan, FixedThresholds(thresholds={"0": 2.0}))
    stored_weight(model[0]).data[0, 0] = float("nan")
    with pytest.raises(SparsityError, match="0: its weights are not finite"):
        sparsifier.update_(0)
    with pytest.raises(SparsityError, match="remembers nothing"):
        Sparsifier(model, plan).restore_({"a": torch.zeros(1)})
