"""Groups of every topology, by name; reasons for what is frozen; Torch-Pruning's groups as an oracle."""

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from channels.topologies import TOPOLOGIES, Lambda, conv, head, input_size, network, normed
from secateur import model as zoo_model
from secateur.channels.trace import channel_groups
from secateur.errors import ModelError
from secateur.sparsity import attach_masks_, census

# Layers that make the channels -> how many units may go.
FREE: dict[str, dict[tuple[str, ...], int]] = {
    "chain": {("0.0",): 8, ("1.0",): 6, ("3",): 5},
    "residual": {("stem.0", "b", "d"): 8, ("a.0",): 6, ("c.0",): 4},
    "residual_with_downsample": {("stem.0",): 6, ("down.0", "b"): 10, ("a.0",): 8},
    "residual_padded": {("stem.0", "b"): 6, ("a.0",): 5},
    "concat": {("stem.0",): 6, ("a.0",): 4, ("b",): 5},
    "dense_concat": {("stem",): 6, ("a.2",): 4, ("b.2",): 4, ("c.2",): 4},
    "concat_of_depthwise": {("stem.0",): 6, ("point.0",): 8},
    "depthwise": {("0.0",): 8, ("2.0",): 12},
    "grouped": {("0.0",): 12, ("1.0",): 8, ("2.0",): 6},
    "grouped_shuffled": {("0.0",): 8, ("1.0",): 16, ("2.0",): 16, ("3.0",): 6},
    "squeeze_excite": {("stem.0", "expand"): 8, ("reduce",): 4, ("point.0",): 6},
    "flatten": {("0.0",): 6, ("3",): 10},
    "shared_layers": {("stem.0", "twice"): 6, ("last",): 5},
    "two_outputs": {("stem.0",): 6, ("body.0",): 8},
    "conv1d": {("0.0",): 8, ("2.0",): 6},
    "conv3d": {("0.0",): 6, ("1",): 8},
    "mlp": {("0",): 12, ("3",): 8},
    "transposed": {("0.0",): 8, ("2",): 6, ("5",): 4},
    "parameters": {("stem.0", "body"): 6},
    "position_embedding": {("stem",): 6, ("body",): 5},
    "pixel_shuffle": {("0.0",): 6, ("2",): 5},
    "split_halves": {("a.0",): 6, ("last.0",): 6},
    "layer_norm": {("up",): 12},
    "attention": {("stem", "out", "down"): 8, ("up",): 16},
    "two_concats_added": {("stem.0",): 6, ("a", "c"): 4, ("b", "c"): 3, ("b", "d"): 3, ("last.0",): 6},
    "transform_parameter": {("stem",): 6, ("body.0",): 5},
    "gates": {("stem.0",): 8, ("point.0",): 6},
    "upsampled": {("stem.0",): 6, ("deep.0",): 8, ("last",): 7},
}


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_groups_of(name):
    groups = channel_groups(network(name), input_size(name))
    assert {group.producers: group.size for group in groups.free} == FREE[name]


def test_a_gate_of_one_channel_stays_and_says_why():
    groups = channel_groups(network("gates"), (3, 8, 8))
    assert {groups[name].frozen for name in ("pixel", "image")} == {
        "one channel that meets all channels of another value"
    }
    assert groups["stem.0"].consumers == ("pixel", "point.0")


def test_members_of_a_squeeze_and_excite_group():
    group = channel_groups(network("squeeze_excite"), (3, 8, 8))["stem.0"]
    assert {(member.tensor, member.axis, member.role) for member in group.members} == {
        ("stem.0.weight", 0, "producer"),
        ("stem.1.weight", 0, "norm"),
        ("stem.1.bias", 0, "norm"),
        ("stem.1.running_mean", 0, "norm"),
        ("stem.1.running_var", 0, "norm"),
        ("reduce.weight", 1, "consumer"),
        ("expand.weight", 0, "producer"),
        ("expand.bias", 0, "parameter"),
        ("point.0.weight", 1, "consumer"),
    }


def test_a_grouped_layer_has_segments():
    groups = channel_groups(network("grouped"), (3, 8, 8))
    assert groups["0.0"].segment.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert groups["1.0"].segment.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    member = next(member for member in groups["0.0"].members if member.tensor == "1.0.weight")
    assert (member.axis, member.length, member.groups) == (1, 12, 4)


def test_a_pixel_shuffle_makes_four_filters_one_unit():
    group = channel_groups(network("pixel_shuffle"), (3, 8, 8))["0.0"]
    assert group.members[0].positions.tolist() == [[4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3] for i in range(6)]


@pytest.mark.parametrize(
    ("reason", "forward"),
    [
        ("operator sort", lambda m, x: torch.sort(m.a(x), dim=1)[0]),
        ("layer_norm over channels", lambda m, x: F.layer_norm(m.a(x), (6, 8, 8))),
        ("group_norm over channels", lambda m, x: F.group_norm(m.a(x), 3)),
        ("softmax over channels", lambda m, x: m.a(x).softmax(1)),
        ("mean over channels", lambda m, x: m.a(x) - m.a(x).mean(1, keepdim=True)),
        ("picked by fixed positions", lambda m, x: m.a(x)[:, [1, 0, 2, 3, 4, 5]]),
        ("picked by fixed positions", lambda m, x: F.pad(m.a(x)[:, :3], (0, 0, 0, 0, 0, 3))),
        ("split into parts of fixed size", lambda m, x: torch.cat(m.a(x).split(2, dim=1)[::-1], 1)),
        ("reshaped into parts of fixed size", lambda m, x: m.a(x).unflatten(1, (2, 3)).flip(1).flatten(1, 2)),
        ("shuffled in fixed groups", lambda m, x: F.channel_shuffle(m.a(x), 2)),
        ("picked by fixed positions", lambda m, x: m.a(x).roll(1, dims=1)),
        ("product of two activations", lambda m, x: (m.a(x).flatten(2).mT @ m.a(x).flatten(2)).view(1, 4, 32, 32)),
        ("meets a value of fixed size", lambda m, x: torch.zeros(1, 6, 8, 8).add_(m.a(x))),
        ("meets a value of fixed size", lambda m, x: m.a(x) * torch.rand(1, 6, 1, 1)),
    ],
)  # fmt: skip
def test_reason(reason, forward):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = conv(3, 6)
            self.last = nn.LazyConv2d(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(forward(self, x).contiguous())

    net = Net()
    net(torch.zeros(1, 3, 8, 8))
    assert channel_groups(net, (3, 8, 8))["a"].frozen == reason


def test_inputs_and_outputs_are_frozen_with_their_reason():
    groups = channel_groups(network("two_outputs"), (3, 8, 8))
    reasons = {group.name: group.frozen for group in groups.groups if group.frozen}
    assert reasons == {
        "into stem.0": "input of the network",
        "head.2": "output of the network",
        "early.2": "output of the network",
    }


@pytest.mark.parametrize("forward", [
    lambda m, x: m.last(m.a(x)[:, :, 1:-1]),  # pixels, not channels
    lambda m, x: m.last(m.a(x).flip(1)),
    lambda m, x: m.last(m.a(x).flatten(2).softmax(-1).unflatten(2, (8, 8))),
    lambda m, x: m.last(m.a(x) - m.a(x).mean((2, 3), keepdim=True)),
    lambda m, x: m.last(F.instance_norm(m.a(x))),
    lambda m, x: m.last(F.pad(m.a(x), (1, 1, 1, 1), mode="reflect")),
    lambda m, x: m.last(torch.stack([m.a(x), m.a(x).relu()]).sum(0)),
    lambda m, x: m.last(m.a(x).clamp_(0, 1).mul_(2)),
    lambda m, x: m.last(m.a(x).amax((2, 3))[:, :, None, None].expand(-1, -1, 8, 8)),
    lambda m, x: m.last(torch.where(m.a(x) > 0, m.a(x), torch.zeros(()))),
])  # fmt: skip
def test_what_keeps_channels_apart_leaves_them_free(forward):
    net = Lambda(forward, a=conv(3, 6), last=conv(6, 4, 1))
    assert channel_groups(net, (3, 8, 8))["a"].frozen is None


def test_channels_that_meet_tokens_become_one_unit():
    """A mixer's layer over tokens sees every channel: they go together or not at all."""
    net = Lambda(
        lambda m, x: m.head(m.mix(m.a(x).flatten(2)).mean(-1)), a=conv(3, 6), mix=nn.Linear(64, 5), head=nn.Linear(6, 4)
    )
    group = channel_groups(net, (3, 8, 8))["a"]
    assert group.size == 1 and "one unit" in str(channel_groups(net, (3, 8, 8)))  # fmt: skip


def test_weight_norm_is_frozen_and_masks_are_not():
    net = nn.Sequential(normed(3, 6), nn.utils.parametrizations.weight_norm(conv(6, 5)), head(5))
    attach_masks_(net, ["0.0"])
    groups = channel_groups(net, (3, 8, 8))
    assert groups["0.0"].frozen == "a convolution whose weight is computed"
    net = nn.Sequential(normed(3, 6), conv(6, 5), head(5))
    attach_masks_(net, ["0.0", "1"])
    assert channel_groups(net, (3, 8, 8))["0.0"].frozen is None


def test_tracing_leaves_the_network_alone():
    net = network("chain").train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    channel_groups(net, (3, 8, 8))
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["grouped", "transposed", "attention", "shared_layers"])
def test_work_is_that_of_the_census(name):
    net = network(name, torch.float32)
    groups = channel_groups(net, (3, 8, 8))
    counted = census(net, (3, 8, 8))
    assert groups.macs == counted.macs
    assert groups.parameters == counted.parameters


def test_an_input_that_does_not_fit_is_told():
    with pytest.raises(ModelError, match="does not run on an input of shape 1x4x8x8"):
        channel_groups(network("chain"), (4, 8, 8))
    with pytest.raises(ModelError, match="whole numbers from 1"):
        channel_groups(network("chain"), (3, 0, 8))


def test_outputs_in_containers_are_found_or_refused():
    class Hidden:
        def __init__(self, value):
            self.value = value

    net = Lambda(lambda m, x: {"a": [m.a(x)], "b": None}, a=conv(3, 4))
    assert channel_groups(net, (3, 8, 8))["a"].frozen == "output of the network"
    net = Lambda(lambda m, x: Hidden(m.a(x)), a=conv(3, 4))
    with pytest.raises(ModelError, match="the network returns a Hidden"):
        channel_groups(net, (3, 8, 8))


def units_of(groups, layer):
    """(tensor, axis, entries) of every weight that goes with filter 0 of a layer."""
    for group in groups.groups:
        for member in group.members:
            if member.tensor == f"{layer}.weight" and member.role == "producer":
                (unit,) = np.nonzero((member.positions == 0).any(axis=1))
                if len(unit):
                    return {
                        (m.tensor, m.axis, tuple(m.positions[unit[0]].tolist()))
                        for m in group.members
                        if m.tensor.endswith(".weight")
                    }
    raise AssertionError(layer)


def dense_like() -> nn.Module:
    return network("dense_concat", torch.float32)


@pytest.mark.parametrize("build", [
    lambda: zoo_model("resnet18", classes=7),
    lambda: zoo_model("mobilenet_v2", classes=7),
    lambda: zoo_model("vgg16_cifar10", classes=7),
    dense_like,
], ids=["resnet18", "mobilenet_v2", "vgg16_cifar10", "dense"])  # fmt: skip
def test_torch_pruning_finds_the_same_groups(build):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tp = pytest.importorskip("torch_pruning")
    net = build().eval()
    size = (3, 32, 32)
    groups = channel_groups(net, size)
    names = {module: name for name, module in net.named_modules()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = tp.DependencyGraph().build_dependency(net, torch.randn(1, *size))
    compared = 0
    for name, module in net.named_modules():
        if not isinstance(module, nn.Conv2d) or module.groups > 1:
            continue
        theirs = set()
        for dependency, entries in graph.get_pruning_group(module, tp.prune_conv_out_channels, idxs=[0]):
            target = dependency.target.module
            if target in names and hasattr(target, "weight"):
                inwards = "in_channels" in dependency.handler.__name__ and not isinstance(target, nn.BatchNorm2d)
                depthwise = isinstance(target, nn.Conv2d) and target.groups > 1
                axis = 1 if inwards and not depthwise else 0
                theirs.add((f"{names[target]}.weight", axis, tuple(sorted(entries))))
        assert units_of(groups, name) == theirs, name
        compared += 1
    assert compared >= 4
