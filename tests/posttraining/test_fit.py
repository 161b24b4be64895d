"""Fitting one unit: against least squares, and what stays as it is."""

import copy

import pytest
import torch
from torch import nn

from secateur.posttraining.descent import FitOptions
from secateur.posttraining.feed import Feed
from secateur.posttraining.fit import channel_axis, distance, fit_unit_
from secateur.posttraining.units import Unit, find_units
from secateur.sparsity import attach_masks_, mask_of, set_mask_
from unit_networks import Residual, Straight, built, images


class One(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x):
        return self.layer(x)


def test_converges_to_least_squares_on_the_kept_weights():
    torch.manual_seed(0)
    dense = One()
    network = copy.deepcopy(dense)
    x = torch.randn(64, 6) @ torch.randn(6, 6)
    mask = torch.rand(4, 6) > 0.4
    attach_masks_(network, ["layer"])
    set_mask_(network.layer, mask)
    units = find_units(dense, "independent", x)
    targets = [dense(x).detach()]
    found = fit_unit_(
        units, units.units[0], network, [x], targets, FitOptions(6000, 0.02, False, stop_below=0.0), torch.Generator()
    )
    wanted = torch.zeros(4, 6, dtype=torch.float64)
    for row in range(4):
        kept, y = mask[row], x.double() @ dense.layer.weight[row].double().detach()
        wanted[row, kept] = torch.linalg.lstsq(x.double()[:, kept], y[:, None]).solution[:, 0]
    best = float(((wanted - dense.layer.weight.double()) @ x.double().T).square().sum(0).mean().detach())
    assert found.after == pytest.approx(best, rel=1e-4)
    assert torch.allclose(network.layer.weight.double(), wanted, atol=2e-3)
    assert bool((network.layer.weight[~mask] == 0).all())


def test_loss_is_the_channel_sum_averaged_over_images_and_positions():
    output, target = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    assert float(distance(output, 2 * target, 1)) == 12.0
    network = nn.ModuleDict({"conv": nn.Conv2d(3, 3, 1), "linear": nn.Linear(3, 5)})
    assert channel_axis(network, Unit("", ("conv",), "", ""), target) == 1
    assert channel_axis(network, Unit("", ("conv", "linear"), "", ""), torch.ones(2, 7, 5)) == -1
    assert channel_axis(network, Unit("", ("conv",), "", ""), torch.ones(2, 5)) == -1


@pytest.mark.parametrize("make", [Straight, Residual])
def test_only_the_unit_changes(make):
    dense = built(make)
    network = copy.deepcopy(dense)
    units = find_units(dense, "block", images(1)[0])
    unit = units.units[1]
    attach_masks_(network, unit.layers)
    for name in unit.layers:
        mask = mask_of(network.get_submodule(name)).clone()
        mask.view(-1)[::2] = False
        set_mask_(network.get_submodule(name), mask)
    feed = Feed(dense, units, images(2), {unit.source, unit.result}, "host")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    sources = feed.sources(unit)
    found = fit_unit_(
        units, unit, network, sources, feed.results(unit), FitOptions(30, 1e-2, False), torch.Generator().manual_seed(1)
    )
    assert found.after < 0.9 * found.before
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{name}.parametrizations.weight.original" for name in unit.layers}
