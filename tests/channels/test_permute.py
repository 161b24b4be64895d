"""Reordered channels compute the same, on every topology."""

import numpy as np
import pytest
import torch

from channels.topologies import TOPOLOGIES, images, input_size, network, outputs
from secateur.channels.permute import permute_group_
from secateur.channels.trace import channel_groups
from secateur.errors import SparsityError
from secateur.sparsity import attach_masks_, masks, set_mask_


def order_within_segments(group, generator):
    order = np.arange(group.size)
    for segment in range(group.segments):
        units = np.flatnonzero(group.segment == segment)
        order[units] = generator.permutation(units)
    return order


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_function_stays(name):
    model = network(name)
    x = images(input_size(name))
    before = outputs(model, x)
    generator = np.random.default_rng(0)
    moved = 0
    for group in channel_groups(model, input_size(name)).free:
        order = order_within_segments(group, generator)
        moved += int((order != np.arange(group.size)).sum())
        permute_group_(model, group, order)
    assert moved
    for a, b in zip(before, outputs(model, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_masks_and_momentum_move_along():
    model = network("chain")
    attach_masks_(model, ["1.0"])
    mask = torch.rand(6, 8, 3, 3, generator=torch.Generator().manual_seed(0)) > 0.5
    set_mask_(model[1][0], mask)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    outputs(model, images((3, 8, 8)))
    model(images((3, 8, 8))).sum().backward()
    optimizer.step()
    stored = model[1][0].parametrizations.weight.original
    momentum = optimizer.state[stored]["momentum_buffer"].clone()
    group = channel_groups(model, (3, 8, 8))["1.0"]
    order = np.array([5, 4, 3, 2, 1, 0])
    permute_group_(model, group, order, optimizer)
    assert torch.equal(masks(model)["1.0"], mask.flip(0))
    assert torch.equal(optimizer.state[stored]["momentum_buffer"], momentum.flip(0))
    assert stored is model[1][0].parametrizations.weight.original


def test_what_is_no_order_is_refused():
    model = network("grouped")
    groups = channel_groups(model, (3, 8, 8))
    with pytest.raises(SparsityError, match="each of its 12 channels once"):
        permute_group_(model, groups["0.0"], [0] * 12)
    with pytest.raises(SparsityError, match="4 segments"):
        permute_group_(model, groups["0.0"], list(range(11, -1, -1)))
    with pytest.raises(SparsityError, match="output of the network"):
        permute_group_(model, groups["3.2"], [3, 2, 1, 0])
