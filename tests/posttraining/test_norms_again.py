"""Norm statistics: those of all values together, however they are cut into batches; nothing else changes."""

import copy

import pytest
import torch
from torch import nn

from secateur.errors import PosttrainingError
from secateur.posttraining.norms_again import estimate_norms_again_

CASES = {
    "1d": (lambda: nn.BatchNorm1d(3), (40, 3)),
    "1d of sequences": (lambda: nn.BatchNorm1d(3), (40, 3, 5)),
    "2d": (lambda: nn.BatchNorm2d(3), (40, 3, 4, 5)),
    "3d": (lambda: nn.BatchNorm3d(3), (40, 3, 2, 3, 4)),
    "sync": (lambda: nn.SyncBatchNorm(3), (40, 3, 4, 5)),
}


def wrapped(norm):
    return nn.Sequential(nn.Identity(), norm)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sizes", [(40,), (20, 20), (32, 8), (17, 20, 3)])
def test_statistics_of_all_values_together(case, sizes):
    make, shape = CASES[case]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 2.0 + 5.0
    model = wrapped(make())
    assert estimate_norms_again_(model, x.split(sizes)) == 1
    values = x.transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(model[1].running_mean.double(), values.mean(1), atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(model[1].running_var.double(), values.var(1), atol=1e-5, rtol=1e-6)
    assert int(model[1].num_batches_tracked) == 0


def test_one_batch_as_torch_itself():
    x = torch.randn(16, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4))
    theirs = copy.deepcopy(ours)
    for norm in (theirs[1], theirs[4]):
        norm.momentum = 1.0
    theirs.train()(x)
    assert estimate_norms_again_(ours, [x]) == 2
    for place in (1, 4):
        torch.testing.assert_close(ours[place].running_mean, theirs[place].running_mean)
        torch.testing.assert_close(ours[place].running_var, theirs[place].running_var)


def test_weights_modes_and_momenta_stay_and_dropout_is_off():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.BatchNorm1d(6, momentum=0.3), nn.GroupNorm(2, 6))
    model.train()
    model[1].eval()
    model[2].weight.requires_grad_(False)
    before = copy.deepcopy(model)
    x = torch.randn(64, 4)
    estimate_norms_again_(model, [x])
    torch.testing.assert_close(model[2].running_mean, before[0](x).mean(0), atol=1e-6, rtol=1e-5)
    assert [module.training for module in model.modules()] == [module.training for module in before.modules()]
    assert model[2].momentum == 0.3
    for (name, one), (_, other) in zip(model.named_parameters(), before.named_parameters(), strict=True):
        assert torch.equal(one, other), name
        assert one.grad is None
    assert not model[2]._forward_pre_hooks


def test_a_norm_used_twice_gets_both_inputs():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.scale = nn.BatchNorm1d(2, affine=False), nn.Parameter(torch.ones(1))

        def forward(self, x):
            self.norm(x)
            return self.norm(3.0 * x + 1.0)

    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(2))
    model = Twice()
    estimate_norms_again_(model, x.split(10))
    both = torch.cat([x, 3.0 * x + 1.0])
    torch.testing.assert_close(model.norm.running_mean, both.mean(0))
    torch.testing.assert_close(model.norm.running_var, both.var(0))


def test_pruned_then_estimated_again_is_normal():
    """A filter scaled down by the pruning gives the same normalised outputs once its statistics follow."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-12))
    x = torch.randn(64, 3, 6, 6)
    estimate_norms_again_(model, x.split(16))
    expected = model.eval()(x)
    with torch.no_grad():
        model[0].weight.mul_(0.25)
        model[0].bias.add_(3.0)
    assert not torch.allclose(model(x), expected, atol=0.1)
    estimate_norms_again_(model, x.split(16))
    torch.testing.assert_close(model(x), expected, atol=1e-4, rtol=1e-4)


def test_a_network_without_norms_needs_no_images():
    assert estimate_norms_again_(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), []) == 0
    assert estimate_norms_again_(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)), []) == 0


@pytest.mark.parametrize(
    ("batches", "sentence"),
    [
        ([], "need images"),
        ([torch.randn(1, 3)], "one value per channel"),
        ([torch.full((4, 3), torch.nan)], "not finite"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(batches, sentence):
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PosttrainingError, match=sentence):
        estimate_norms_again_(model, batches)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[1].momentum == 0.1 and model.training


def test_relative_to_the_dense_network_an_unchanged_one_keeps_its_statistics():
    torch.manual_seed(0)
    dense = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4)
    ).eval()
    for norm in (dense[1], dense[4]):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    model, x = copy.deepcopy(dense), torch.randn(32, 3, 6, 6)
    assert estimate_norms_again_(model, x.split(16), dense=dense) == 2
    for place in (1, 4):
        torch.testing.assert_close(model[place].running_mean, dense[place].running_mean)
        torch.testing.assert_close(model[place].running_var, dense[place].running_var)


def test_relative_to_the_dense_network_a_scaled_and_shifted_layer_is_followed():
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5)).eval()
    dense[1].running_mean.uniform_(-1, 1)
    dense[1].running_var.uniform_(0.5, 2)
    model, x = copy.deepcopy(dense), torch.randn(64, 3, 6, 6)
    before = copy.deepcopy(dense.state_dict())
    model[0].weight.data *= 3.0
    model[0].bias.data += 0.7
    estimate_norms_again_(model, x.split(16), dense=dense)
    y = dense[0](x)
    ratio = (dense[1].running_var / y.transpose(0, 1).flatten(1).var(1)).sqrt()
    scaled = 3.0 * (y - dense[0].bias[:, None, None]) + (dense[0].bias + 0.7)[:, None, None]
    shift = (scaled - y).mean((0, 2, 3))
    torch.testing.assert_close(model[1].running_mean, dense[1].running_mean + ratio * shift, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model[1].running_var, 9.0 * dense[1].running_var, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(dense.state_dict()[name], value) for name, value in before.items())
