"""Reordering channels: the function stays, the pattern keeps more, what is tied stays together."""

import copy
import ctypes
import json

import numpy as np
import pytest
import torch
from torch import nn

from secateur import zoo
from secateur.channels.order_plan import OrderPlan
from secateur.channels.rearrange import permute_for_nm_, rearrange_for_blocks_, replay_orders_
from secateur.errors import ArtifactError, RecipeError, SparsityError
from secateur.sparsity import NM, masks, plan_sparsity, sparsify_, stored_weight

SIZE = (3, 8, 8)


def conv(inputs, outputs, kernel=3, groups=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=kernel == 1),
        nn.BatchNorm2d(outputs),
        nn.PReLU(outputs),
    )


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.c = conv(3, 16), conv(16, 24), conv(24, 16), conv(16, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.b(self.a(x))
        return self.head(self.c(x).mean((2, 3)))


class Concat(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.c = conv(3, 16), conv(16, 8), conv(24, 16), conv(40, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        x = torch.cat([x, self.a(x)], 1)
        x = torch.cat([x, self.b(x)], 1)
        return self.head(self.c(x).mean((2, 3)))


class Depthwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.depthwise, self.b = conv(3, 8), conv(8, 24, 1), conv(24, 24, 3, 24), conv(24, 16, 1)
        self.c = conv(16, 16, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.c(self.b(self.depthwise(self.a(self.stem(x))))).mean((2, 3)))


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = conv(3, 16), conv(16, 16), conv(16, 16)
        self.squeeze, self.excite = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.a(self.stem(x))
        x = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(self.b(x).mean((2, 3)))


class Shuffle(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.c = conv(3, 16), conv(8, 16), conv(16, 8), conv(16, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        left, right = self.stem(x).chunk(2, 1)
        x = torch.cat([left, self.b(self.a(right))], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.c(x).mean((2, 3)))


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.c = conv(3, 16), conv(16, 16), conv(16, 32, 3, 2), conv(32, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.c(self.b(self.a(self.stem(x)))).mean((2, 3)))


class Flatten(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = conv(3, 16), conv(16, 16), conv(16, 8)
        self.hidden, self.head = nn.Linear(8 * 16, 24), nn.Linear(24, 5)

    def forward(self, x):
        x = nn.functional.avg_pool2d(self.b(self.a(self.stem(x))), 2)
        return self.head(torch.relu(self.hidden(x.flatten(1))))


NETWORKS = {
    "residual": Residual, "concat": Concat, "depthwise": Depthwise, "squeeze_excite": SqueezeExcite,
    "shuffle": Shuffle, "grouped": Grouped, "flatten": Flatten,
}  # fmt: skip


def trained(network, seed=0):
    """Weights, statistics and slopes that differ from channel to channel, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            channels = torch.randn((len(tensor), *[1] * (tensor.ndim - 1)), generator=generator).exp()
            tensor.copy_(noise.abs() + 0.5 if "running_var" in name else 0.3 * noise * channels)
    return network.double().eval()


def outputs(network, size=SIZE):
    with torch.no_grad():
        parameter = next(network.parameters())
        return network(torch.randn(2, *size, generator=torch.Generator().manual_seed(1)).to(parameter.dtype))


def kept(network, pattern, level):
    """Magnitude left in the layers that are pruned."""
    network = copy.deepcopy(network)
    plan = sparsify_(network, level, pattern, base="selected")
    modules = dict(network.named_modules())
    return sum(float(modules[name].weight.detach().abs().sum()) for name in plan.levels)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("pattern", ["2:4", "1x4", "1x4-fine"])
def test_outputs_stay_and_the_pattern_keeps_more(name, pattern):
    network = trained(NETWORKS[name]())
    wanted, before = outputs(network), kept(network, pattern, 0.5)
    if pattern == "2:4":
        plan = permute_for_nm_(network, pattern, SIZE, escapes=3)
    else:
        plan = rearrange_for_blocks_(network, pattern, 0.5, SIZE, rule="similar")
    assert plan.reordered
    assert torch.allclose(outputs(network), wanted, rtol=1e-12, atol=1e-12)
    assert kept(network, pattern, 0.5) > before
    for group in plan.groups:
        assert group.after >= group.before
        assert (group.after > group.before) == bool(group.order)


def test_the_magnitudes_in_the_plan_are_those_of_the_masks():
    network = trained(Residual())
    before = kept(network, "2:4", 0.5)
    plan = permute_for_nm_(network, "2:4", SIZE, escapes=0)
    assert sum(group.before for group in plan.groups) == pytest.approx(before)
    assert sum(group.after for group in plan.groups) == pytest.approx(kept(network, "2:4", 0.5))


def test_layers_of_a_residual_sum_share_one_order():
    network = trained(Residual())
    plan = rearrange_for_blocks_(network, "1x4", 0.5, SIZE, levels={"a.0": 0.5, "b.0": 0.5}, rule="similar")
    assert {group.layers for group in plan.groups} == {("a.0",), ("b.0",)}
    stem_before = trained(Residual()).stem[0].weight.detach()
    order = torch.tensor(next(group.order for group in plan.groups if group.layers == ("b.0",)))
    assert torch.equal(network.stem[0].weight.detach(), stem_before[order])  # the stem is added to b


def test_tied_layers_can_be_left():
    network = trained(Residual())
    plan = rearrange_for_blocks_(network, "1x4", 0.5, SIZE, tied="leave", rule="similar")
    tied = next(group for group in plan.groups if "b.0" in group.layers)
    assert tied.order == () and "tied" in tied.remark
    assert any(group.order for group in plan.groups)


def test_consumers_of_one_tensor_share_one_order():
    network = trained(SqueezeExcite())
    plan = permute_for_nm_(network, "2:4", SIZE, escapes=0)
    assert ("squeeze", "b.0") in {group.layers for group in plan.groups}


def test_channels_stay_inside_the_groups_of_a_convolution():
    plan = permute_for_nm_(trained(Grouped()), "2:4", SIZE, escapes=0)
    order = np.array(next(group.order for group in plan.groups if group.layers == ("b.0",)))
    assert set(order[:8]) == set(range(8)) and set(order[8:]) == set(range(8, 16))


def test_inputs_and_outputs_keep_their_order():
    network = trained(Residual())
    plan = rearrange_for_blocks_(network, "1x2", 0.5, SIZE, levels={"head": 0.5, "c.0": 0.5}, rule="similar")
    head = next(group for group in plan.groups if group.layers == ("head",))
    assert head.order == () and "output of the network" in head.remark
    plan = permute_for_nm_(network, NM(1, 2, "pad"), SIZE, layers=("stem.0",))
    assert plan.reordered == () and "input of the network" in plan.groups[0].remark


def test_only_named_layers_are_looked_at():
    plan = permute_for_nm_(trained(Residual()), "2:4", SIZE, layers=("c.0",), escapes=0)
    assert [group.layers for group in plan.groups] == [("c.0",)]


def test_the_oracle_of_the_source():
    network = nn.Sequential(nn.Conv2d(2, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 1, 1, bias=False)).double()
    with torch.no_grad():
        weight = torch.tensor([[1, 0.1], [0.05, 0.02], [0.9, 0.2], [0.04, 0.01]], dtype=torch.float64)
        network[0].weight.copy_(weight[:, :, None, None])
        network[2].weight.copy_(torch.tensor([[1.0, 2, 3, 4]])[:, :, None, None])
    plan = rearrange_for_blocks_(network, "1x2", 0.5, (2, 4, 4), levels={"0": 0.5}, rule="sorted")
    assert plan.groups[0].order == (3, 1, 0, 2)
    assert network[2].weight.flatten().tolist() == [4, 2, 1, 3]
    assert (plan.groups[0].before, plan.groups[0].after) == pytest.approx((1.99, 2.2))


def test_similar_keeps_at_least_what_sorted_keeps():
    a, b = trained(Residual()), trained(Residual())
    similar = rearrange_for_blocks_(a, "1x4", 0.5, SIZE, rule="similar")
    by_norm = rearrange_for_blocks_(b, "1x4", 0.5, SIZE, rule="sorted")
    assert similar.gained > by_norm.gained >= 0


def test_masks_and_optimiser_state_move_along():
    network = trained(Residual()).train()
    sparsify_(network, 0.5, "2:4", base="selected")
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    outputs(network.eval())
    network(torch.randn(2, *SIZE, dtype=torch.float64)).sum().backward()
    optimizer.step()
    wanted = outputs(network)
    zeros = {name: int((~mask).sum()) for name, mask in masks(network).items()}
    momentum = optimizer.state[stored_weight(network.c[0])]["momentum_buffer"].clone()
    plan = rearrange_for_blocks_(network, "1x4", 0.5, SIZE, optimizer=optimizer, rule="similar")
    assert plan.reordered
    assert torch.allclose(outputs(network), wanted, rtol=1e-12, atol=1e-12)
    assert {name: int((~mask).sum()) for name, mask in masks(network).items()} == zeros
    after = optimizer.state[stored_weight(network.c[0])]["momentum_buffer"]
    assert torch.equal(after.flatten().sort().values, momentum.flatten().sort().values)
    assert not torch.equal(after, momentum)


def test_same_seed_same_plan_and_the_plan_is_json():
    plans = [permute_for_nm_(trained(Concat()), "2:4", SIZE, seed=4, escapes=2) for _ in range(2)]
    assert plans[0] == plans[1]
    assert OrderPlan.from_dict(json.loads(json.dumps(plans[0].to_dict()))) == plans[0]
    text = str(plans[0])
    assert "pattern 2:4, permuted" in text and "of |w|" in text


def test_a_plan_replays_on_another_copy():
    a, b = trained(Grouped()), trained(Grouped())
    plan = rearrange_for_blocks_(a, "1x4", 0.5, SIZE, rule="similar")
    replay_orders_(b, OrderPlan.from_dict(plan.to_dict()), SIZE)
    assert all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())
    with pytest.raises(SparsityError, match=r"unknown group of channels|must name each of its"):
        replay_orders_(trained(Residual()), plan, SIZE)


@pytest.mark.parametrize("change", [{"order": [0, 0, 1]}, {"size": 3}, {"order": "x"}, {"layers": None}])
def test_a_damaged_plan_is_refused(change):
    value = permute_for_nm_(trained(Residual()), "2:4", SIZE, escapes=0).to_dict()
    with pytest.raises(ArtifactError, match="not an order plan"):
        OrderPlan.from_dict(value | {"groups": [value["groups"][0] | change]})


class Hidden(nn.Module):
    """Reads a weight behind torch's back, so that nothing shows that the order of channels matters."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x):
        return self.b(self.a(x) * ctypes.c_double.from_address(self.a.weight.data_ptr()).value)


def test_a_network_with_a_hidden_order_is_left_as_it_was():
    network = trained(Hidden())
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(SparsityError, match="it was left as it was"):
        rearrange_for_blocks_(network, "1x4", 0.5, SIZE, levels={"a": 0.5}, rule="similar")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda network: permute_for_nm_(network, "1x4", SIZE), "not for 1x4"),
        (lambda network: rearrange_for_blocks_(network, "2:4", 0.5, SIZE), "not for 2:4"),
        (lambda network: rearrange_for_blocks_(network, "1x4", 0.5, SIZE, rule="kmeans"), "unknown rule 'kmeans'"),
        (lambda network: rearrange_for_blocks_(network, "1x4", 0.5, SIZE, tied="no"), "unknown treatment"),
        (lambda network: permute_for_nm_(network, "2:4", SIZE, layers=("c.1",)), "unknown layer 'c.1'"),
    ],
)
def test_what_is_not_possible_is_said(call, sentence):
    with pytest.raises((SparsityError, RecipeError), match=sentence):
        call(Residual())


def test_a_network_of_the_zoo():
    network = zoo.model("resnet20_cifar10", weights=None, seed=1).eval()
    wanted = outputs(network, (3, 32, 32))
    for verb in (
        lambda: permute_for_nm_(network, "2:4", work=200_000, escapes=0),
        lambda: rearrange_for_blocks_(network, "1x4", 0.5, work=200_000, rule="similar"),
    ):
        assert verb().reordered
        assert torch.allclose(outputs(network, (3, 32, 32)), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def test_levels_of_a_sparsity_plan_can_be_given():
    network = trained(Residual())
    levels = plan_sparsity(network, 0.5, "1x4", base="selected").levels
    plan = rearrange_for_blocks_(network, "1x4", input_size=SIZE, levels=levels, rule="similar")
    assert {name for group in plan.groups for name in group.layers} == set(levels)
