"""Residual branches: found by what blocks compute, and taken out so that only the shortcut is left."""

import copy

import pytest
import torch
from torch import nn

import secateur
import tiny_networks
from channels.topologies import Lambda, conv, outputs, randomized
from secateur.channels.branches import drop_branches_, idle_branches, residual_branches, without_branches
from secateur.errors import ModelError, SparsityError
from secateur.sparsity import attach_masks_, census, set_mask_


def silence_(network, name):
    """A block whose branch gives zeros, by the last layer of it alone."""
    with torch.no_grad():
        for tensor in network.get_submodule(name).conv2.parameters():
            tensor.zero_()


def test_every_block_with_a_plain_shortcut_is_found_with_its_size():
    network = tiny_networks.residual()
    found = residual_branches(network)
    assert [(branch.name, branch.rest) for branch in found] == [
        ("blocks.0", "relu"), ("blocks.1", "input"), ("blocks.2", "relu"),
    ]  # fmt: skip
    assert found[0].layers == ("blocks.0.conv1", "blocks.0.conv2")
    assert found[0].macs == 2 * 8 * 8 * 9 * 64
    assert found[0].parameters == 2 * 8 * 8 * 9 + 8 + 2 * 8


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("resnet20_cifar10", 7), ("resnet56b_cifar10", 25), ("mobilenet_v2", 10), ("mobilenet_v3_small", 6),
     ("resnet18", 5), ("efficientnet_b0", 9), ("vit_tiny_patch16_224", 12), ("densenet121", 0),
     ("shufflenetv2_x0_5_cifar10", 0), ("squeezenet1_1", 0)],
)  # fmt: skip
def test_blocks_of_the_zoo(name, blocks):
    """Blocks that halve the image, concatenations and shuffles have no plain shortcut."""
    assert len(residual_branches(secateur.model(name))) == blocks


@pytest.mark.parametrize("name", ["resnet20_cifar10", "mobilenet_v3_small"])
def test_a_network_without_branches_is_the_one_whose_branches_give_zeros(name):
    network = randomized(secateur.model(name)).eval()
    chosen = residual_branches(network)[1::2]
    masked, dropped = copy.deepcopy(network), copy.deepcopy(network)
    for branch in chosen:
        block = masked.get_submodule(branch.name)
        for tensor in (*block.parameters(), *block.buffers()):
            if tensor.is_floating_point():
                tensor.data.zero_()
    drop_branches_(dropped, {branch.name: branch.rest for branch in chosen})
    size = network.preprocessing.input_size
    image = torch.randn(2, *size, generator=torch.Generator().manual_seed(1))
    assert torch.equal(outputs(masked, image)[0], outputs(dropped, image)[0])
    gone = sum(branch.macs for branch in chosen)
    assert census(network, size).macs - census(dropped, size).macs == gone
    parameters = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in dropped.parameters())
    assert parameters == sum(branch.parameters for branch in chosen)


def test_of_blocks_within_blocks_the_inner_ones_count():
    inner = tiny_networks.Block(3)
    outer = Lambda(lambda m, x: x + m.last(m.inner(x)), inner=inner, last=conv(3, 3))
    network = nn.Sequential(outer, nn.Flatten(), nn.Linear(3 * 64, 4))
    # In the outer block the inner one is no shortcut of the whole, but it is one itself.
    assert [branch.name for branch in residual_branches(network, (3, 8, 8))] == ["0.inner"]


def test_a_block_that_is_run_twice_stays():
    block = tiny_networks.Block(3)
    network = Lambda(lambda m, x: m.head(m.block(m.block(x)).mean((2, 3))), block=block, head=nn.Linear(3, 2))
    assert residual_branches(network, (3, 8, 8)) == ()


def test_a_block_that_the_program_looks_into_stays():
    network = Lambda(
        lambda m, x: m.head((m.block(x) + m.block.conv1.weight.sum()).mean((2, 3))),
        block=tiny_networks.Block(3),
        head=nn.Linear(3, 2),
    )
    assert residual_branches(network, (3, 8, 8)) == ()


def test_idle_branches_are_those_that_add_nothing_as_they_are():
    network = tiny_networks.residual().eval()
    assert idle_branches(network) == ()
    silence_(network, "blocks.1")
    assert [branch.name for branch in idle_branches(network)] == ["blocks.1"]


def test_masks_count_as_zeros():
    network = tiny_networks.residual().eval()
    with torch.no_grad():
        network.blocks[2].conv2.bias.zero_()
    attach_masks_(network, ["blocks.2.conv2"])
    set_mask_(network.blocks[2].conv2, torch.zeros(8, 8, 3, 3, dtype=torch.bool))
    assert [branch.name for branch in idle_branches(network)] == ["blocks.2"]


def test_without_branches_puts_them_back():
    network = tiny_networks.residual().eval()
    before, image = dict(network.named_modules()), torch.randn(1, 3, 16, 16)
    wanted = network(image)
    with (
        pytest.raises(RuntimeError, match="stop"),
        without_branches(network, {"blocks.0": "relu", "blocks.1": "input"}),
    ):
        assert not torch.equal(network(image), wanted)
        raise RuntimeError("stop")
    assert dict(network.named_modules()) == before
    assert torch.equal(network(image), wanted)


@pytest.mark.parametrize(
    ("rests", "said"),
    [({"blocks.7": "relu"}, r"block 'blocks.7'.*blocks.2"), ({"": "relu"}, "block ''"),
     ({"blocks.0": "gelu"}, "rest of a block 'gelu'")],
)  # fmt: skip
def test_what_is_no_block_changes_nothing(rests, said):
    network = tiny_networks.residual()
    before = dict(network.named_modules())
    with pytest.raises(SparsityError, match=said):
        drop_branches_(network, {"blocks.1": "input"} | rests)
    assert dict(network.named_modules()) == before


def test_a_network_that_does_not_run_says_so():
    with pytest.raises(ModelError, match="does not run"):
        residual_branches(tiny_networks.residual(), (5, 16, 16))
