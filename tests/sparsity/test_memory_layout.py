"""Which networks compute in channels-last layout, and that asking them changes nothing."""

import copy

import pytest
import torch
from torch import nn

from secateur.sparsity import attach_masks_
from secateur.sparsity.memory_layout import layout_for, with_layout
from tiny_networks import LeNet, Tiny

IMAGES = torch.zeros(1, 3, 16, 16)


def test_a_network_that_flattens_by_view_is_contiguous_and_takes_its_partner_with_it():
    assert layout_for([Tiny()], IMAGES) == torch.channels_last
    assert layout_for([LeNet()], IMAGES) == torch.contiguous_format
    assert layout_for([Tiny(), LeNet()], IMAGES) == torch.contiguous_format
    assert layout_for([LeNet(), Tiny()], IMAGES) == torch.contiguous_format
    assert layout_for([], IMAGES) == torch.channels_last


def test_a_view_of_what_has_one_pixel_is_none_that_matters():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), _View(4), nn.Linear(4, 2))
    assert layout_for([network], IMAGES) == torch.channels_last


class _View(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(-1, *self.shape)


@pytest.mark.parametrize("weights", [True, False])
def test_images_of_one_channel(weights):
    """The two layouts of a grey image are one: what the weights are like decides about the maps behind."""
    network = nn.Sequential(nn.Conv2d(1, 4, 3), _View(4 * 14 * 14))
    image = torch.zeros(1, 1, 16, 16)
    found = layout_for([network], image, weights=weights)
    tried = copy.deepcopy(network)
    if weights:
        tried = tried.to(memory_format=torch.channels_last)
    try:
        tried(with_layout(torch.zeros(2, 1, 16, 16), torch.channels_last))
        assert found == torch.channels_last
    except RuntimeError:
        assert found == torch.contiguous_format


def test_view_across_images_is_seen():
    """One image alone would not show it."""

    class Pairs(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.view(1, -1, *x.shape[2:])

    assert layout_for([Pairs()], IMAGES) == torch.contiguous_format


class Restless(nn.Module):
    """Counts its images, also when it only answers, and draws a random number for each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        return self.norm(self.conv(x)).flatten(1) + torch.rand(())


@pytest.mark.parametrize("masked", [False, True])
def test_a_network_that_was_asked_is_as_it_was(masked):
    network = Restless().train()
    network.norm.eval()
    if masked:
        attach_masks_(network, ["conv"])
    state = {name: value.clone() for name, value in network.state_dict(keep_vars=True).items()}
    tensors = dict(network.state_dict(keep_vars=True))
    strides = {name: value.stride() for name, value in tensors.items()}
    modes, random = [module.training for module in network.modules()], torch.get_rng_state()
    assert layout_for([network], IMAGES) == torch.channels_last
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in network.modules()] == modes
    for name, value in network.state_dict(keep_vars=True).items():
        assert value is tensors[name] or value.data_ptr() == tensors[name].data_ptr()
        assert torch.equal(value, state[name]) and value.stride() == strides[name]
        assert value.grad is None


def test_a_network_that_cannot_compute_at_all_fails_where_it_is_used():
    assert layout_for([nn.Conv2d(7, 2, 1)], IMAGES) == torch.contiguous_format


def test_inputs_of_another_rank_lie_as_they_lie():
    signals = torch.zeros(2, 3, 5)
    assert with_layout(signals, torch.channels_last) is signals
    assert layout_for([nn.Conv1d(3, 2, 3)], signals) == torch.channels_last
    assert with_layout(IMAGES, torch.channels_last).is_contiguous(memory_format=torch.channels_last)
