"""Who follows the batch, what is as before afterwards, and when statistics of batches would drown what is to learn."""

import copy

import pytest
import torch
from torch import nn

from secateur.recipe import Tuning
from secateur.training.norm_modes import norms_follow, norms_should_follow, only_norms_train_
from secateur.training.tuning import loss_form

FORM = loss_form(Tuning())


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(288, 4)
    )
    model.train()
    with torch.no_grad():
        for _ in range(60):
            model(torch.randn(64, 3, 8, 8))
    return model.eval()


def test_only_norms_train_and_all_modes_come_back():
    model = network()
    model[3].train()
    with norms_follow(model, 0.25):
        only_norms_train_(model, True)
        assert [m.training for m in model] == [False, True, False, False, False, False]
        assert model[1].momentum == 0.25
        only_norms_train_(model, False)
        assert not any(m.training for m in model)
    assert [m.training for m in model] == [False, False, False, True, False, False]
    assert model[1].momentum == 0.1


@pytest.mark.parametrize(("share", "follow"), [(0.001, False), (3.0, True)])
def test_norms_follow_where_the_network_is_farther_away_than_the_batch_makes_it(share, follow):
    teacher = network()
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        student[5].weight += share * torch.randn(4, 288)
    state = {name: value.clone() for name, value in teacher.state_dict().items()}
    assert norms_should_follow(student, teacher, torch.randn(8, 3, 8, 8), FORM) is follow
    for name, value in teacher.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, state[name]), name
    assert not any(module.training for module in teacher.modules())


def test_without_norms_nothing_follows():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    assert not norms_should_follow(other, model, torch.randn(8, 3, 8, 8), FORM)
