"""Counting torch networks: published totals, layers used in unusual ways, nothing left behind."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from secateur.errors import ModelError
from secateur.sparsity import attach_masks_, census, set_mask_, sparsify_, structure


@pytest.mark.parametrize(
    ("depth", "weights", "macs", "tensors"),
    [(18, 11_678_912, 1_814_073_344, 21), (50, 25_502_912, 4_089_184_256, 54)],
)
def test_published_totals(resnet: Callable[[int], nn.Module], depth: int, weights: int, macs: int, tensors: int):
    """ALGORITHMS.md L1."""
    found = census(resnet(depth))
    assert (found.weights, found.macs, len(found.layers)) == (weights, macs, tensors)
    assert found.nonzeros == weights and found.dynamic_macs == 0
    if depth == 50:
        assert found.parameters == 25_557_032
        assert found.layer("layer3.0.conv2").positions == 196
        assert found.layer("layer1.0.conv3").input_shape == (64, 56, 56)
        assert found.layer("conv1").attributes == "k=7×7 s=2×2 p=3×3"


def test_the_two_layers_of_degirum_s_example():
    """A3: the same MACs, four times the weights; halving either saves the same work."""
    model = nn.Sequential(
        nn.Conv2d(128, 128, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.Conv2d(128, 512, 1, bias=False)
    )
    model[2] = nn.Conv2d(128, 512, 3, padding=1, bias=False)
    found = census(model, (128, 28, 28))
    assert [layer.weights for layer in found.layers] == [147_456, 589_824]
    assert [layer.macs for layer in found.layers] == [115_605_504] * 2
    for name, removed in (("0", 73_728), ("2", 294_912)):
        sparsify_(model, 0.0, "unstructured", levels={"*": 0.0, name: 0.5})
        halved = census(model, (128, 28, 28))
        assert halved.weights - halved.nonzeros == removed
        assert halved.macs - halved.sparse_macs == 57_802_752
    assert halved.compute_reduction == pytest.approx(4 / 3)


def count(module: nn.Module, *shape: int):
    return census(nn.Sequential(module), shape).layers[0]


@pytest.mark.parametrize(
    ("module", "shape", "kind", "positions", "weights"),
    [
        (nn.Conv2d(4, 8, 3, stride=2, padding=1), (4, 9, 7), "conv", 20, 288),
        (nn.Conv2d(4, 8, 3, dilation=2), (4, 9, 7), "conv", 15, 288),
        (nn.Conv2d(4, 8, 3, groups=2, padding=1), (4, 5, 5), "conv", 25, 144),
        (nn.Conv2d(4, 8, 3, groups=4, padding=1), (4, 5, 5), "depthwise", 25, 72),
        (nn.Conv1d(4, 8, 3), (4, 10), "conv", 8, 96),
        (nn.Conv3d(2, 4, 2), (2, 4, 4, 4), "conv", 27, 64),
        (nn.ConvTranspose2d(4, 8, 3, stride=2), (4, 5, 5), "conv_transpose", 25, 288),
        (nn.ConvTranspose2d(4, 8, 3, groups=2), (4, 5, 5), "conv_transpose", 25, 144),
        (nn.Linear(6, 5), (6,), "linear", 1, 30),
        (nn.Linear(6, 5), (7, 6), "linear", 7, 30),
        (nn.Linear(6, 5), (3, 7, 6), "linear", 21, 30),
    ],
)
def test_kinds_and_positions(module, shape, kind, positions, weights):
    layer = count(module, *shape)
    assert (layer.kind, layer.positions, layer.weights) == (kind, positions, weights)
    assert layer.macs == positions * weights


def test_a_layer_reached_twice_adds_its_positions():
    shared = nn.Conv2d(4, 4, 3, padding=1)
    found = census(nn.Sequential(shared, nn.MaxPool2d(2), shared), (4, 8, 8))
    assert [layer.positions for layer in found.layers] == [64 + 16]
    assert "applied 2 times" in found.layers[0].note


def test_a_shared_tensor_counts_once_and_works_twice():
    one, other = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    other.weight = one.weight
    found = census(nn.Sequential(one, other), (4,))
    assert (found.weights, found.macs, found.parameters) == (16, 32, 16)
    assert "shares its weight with 1" in found.layers[0].note


def test_an_unused_layer_costs_nothing_and_says_so():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.used(x)

    idle = census(Idle(), (4,)).layer("idle")
    assert (idle.positions, idle.macs, idle.weights) == (0, 0, 16) and "not reached" in idle.note


def test_attention_is_counted_where_it_happens():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x)[0]

    found = census(Attention(), (5, 8))
    assert found.layer("attention.out_proj").macs == 5 * 64
    assert found.layer("attention.in_proj_weight").macs == 5 * 3 * 64
    assert found.dynamic_macs == 2 * 5 * 5 * 8


def test_products_of_activations_are_dynamic():
    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("blur", torch.ones(3, 1, 3, 3))

        def forward(self, x):  # (1, 3, 4, 4)
            fixed = F.conv2d(x, self.blur, groups=3, padding=1)  # a fixed filter is neither a weight nor dynamic
            return F.scaled_dot_product_attention(fixed, x, x) @ x

    found = census(Products(), (3, 4, 4))
    assert found.layers == () and found.dynamic_macs == 3 * 3 * 4**3


def test_a_weight_used_without_its_module_belongs_to_its_layer():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 5)
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x):  # (1, 1, 5, 6)
            return F.linear(x, self.layer.weight, self.layer.bias).sum() + F.conv2d(x, self.conv.weight).sum()

    model = Functional()
    attach_masks_(model, ["layer"])
    set_mask_(model.layer, torch.zeros(5, 6, dtype=torch.bool))
    found = census(model, (1, 5, 6))
    assert found.layer("layer").positions == 5 and found.layer("conv").positions == 12
    assert found.layer("layer").nonzeros == 0 and found.dynamic_macs == 0
    assert found.layer("layer").zero_channels == 5


def test_masked_weights_count_as_zeros_and_biases_apart():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    attach_masks_(model, ["0"])
    set_mask_(model[0], torch.eye(4, dtype=torch.bool))
    found = census(model, (4,))
    assert found.nonzeros == 4 and found.sparsity == 0.75
    assert found.other_zeros == 4  # the norm's shift
    assert found.base("all_params").zeros == 16 and found.base("all_params").total == 28


def test_every_mode_and_hook_is_put_back():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    census(model, (3, 8, 8))
    assert model.training and not model[1].training and model[2].training
    assert not model[0]._forward_hooks and not model[0]._forward_pre_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_input_shape_comes_from_the_model_s_preprocessing():
    model = nn.Sequential(nn.Conv2d(1, 4, 3))
    model.preprocessing = SimpleNamespace(input_size=(1, 10, 12))
    assert census(model).input_shape == (1, 10, 12)
    assert census(model).layers[0].positions == 80
    assert census(model, (1, 5, 5)).layers[0].positions == 9


def test_an_image_that_does_not_fit_is_a_sentence():
    model = nn.Sequential(nn.Conv2d(1, 4, 3)).train()
    with pytest.raises(ModelError, match=r"does not run on one image of 3×224×224.*input_shape"):
        census(model)
    assert model.training and not model[0]._forward_hooks


def test_structure_sees_masks(resnet: Callable[[int], nn.Module]):
    model = resnet(18)
    sparsify_(model, 0.5, "1x4", base="selected")
    rows = {row.name: row for row in structure(model).rows}
    assert rows["layer2.0.downsample.0"].kernels == rows["layer2.0.downsample.0"].fine == 50.0
    assert rows["layer4.1.conv1"].kernels == rows["layer4.1.conv1"].fine == 50.0
    assert rows["conv1"].fine == 0
