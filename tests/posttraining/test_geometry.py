"""Columns of layers: the layer is its weight times them, however it pads, strides, dilates and groups."""

import pytest
import torch
from torch import nn

from secateur.errors import PosttrainingError
from secateur.posttraining import Geometry, columns_of, geometry_of
from secateur.posttraining.geometry import columns_in_two, positions_of


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1}, {"kernel_size": 3, "padding": 1}, {"kernel_size": 5, "padding": (2, 1), "stride": (2, 1)},
        {"kernel_size": (7, 3), "padding": 3, "stride": 2},
        {"kernel_size": 3, "dilation": 2, "padding": 2, "groups": 2},
        {"kernel_size": 3, "padding": 1, "groups": 8}, {"kernel_size": (2, 4), "padding": "same"},
        {"kernel_size": 3, "padding": "valid", "groups": 4},
    ],
)  # fmt: skip
def test_rule_1_and_2_unfolded_with_the_layers_own_padding_and_groups(mode, options):
    torch.manual_seed(0)
    module, inputs = nn.Conv2d(8, 16, padding_mode=mode, bias=False, **options), torch.randn(3, 8, 11, 9)
    columns = columns_of(inputs, geometry_of(module))
    assert positions_of(inputs, geometry_of(module)) == columns.shape[2]
    outputs = module(inputs).transpose(0, 1).flatten(1)
    by_columns = (module.weight.flatten(1).reshape(module.groups, -1, columns.shape[1]) @ columns).flatten(0, 1)
    assert torch.allclose(outputs, by_columns, atol=1e-5)


@pytest.mark.parametrize("limit", [None, 40])
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("side, stride", [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_columns_do_not_depend_on_the_memory_layout(side, stride, groups, limit):
    geometry = geometry_of(nn.Conv2d(8, 8, side, stride, side // 2, groups=groups))
    inputs = torch.randn(3, 8, 7, 6)
    last = inputs.to(memory_format=torch.channels_last)
    assert torch.equal(columns_of(last, geometry, limit), columns_of(inputs, geometry, limit))
    for found, wanted in zip(
        columns_in_two(last, 2 * inputs, geometry, limit, None),
        columns_in_two(inputs, 2 * last, geometry, limit, None),
        strict=True,
    ):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    "module, shape", [(nn.Conv1d(4, 2, 3, 2, 1), (2, 4, 9)), (nn.Conv3d(2, 3, 2), (1, 2, 4, 3, 5))]
)
def test_convolutions_of_one_and_three_axes(module, shape):
    inputs = torch.randn(shape)
    outputs = (module(inputs) - module.bias.reshape(-1, *(1 for _ in shape[2:]))).transpose(0, 1).flatten(1)
    assert torch.allclose(outputs, module.weight.flatten(1) @ columns_of(inputs, geometry_of(module))[0], atol=1e-5)


def test_rule_1_asymmetric_padding_comes_before_unfolding():
    geometry = Geometry("conv", (3,), (1,), (1,), ((2, 0),))
    assert columns_of(torch.tensor([[[1.0, 2.0, 3.0]]]), geometry)[0].T.tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3]]


def test_rule_3_linear_layers_flatten_leading_dimensions():
    inputs, geometry = torch.randn(2, 3, 4, 5), geometry_of(nn.Linear(5, 1))
    assert torch.equal(columns_of(inputs, geometry)[0], inputs.reshape(-1, 5).T)
    assert positions_of(inputs, geometry) == 24 and positions_of(inputs[0, 0, 0], geometry) == 1


def test_rule_5_a_draw_takes_the_same_positions_of_all_channels():
    module = nn.Conv2d(6, 6, 3, padding=1, groups=3)
    inputs = torch.randn(4, 1, 8, 8).expand(-1, 6, -1, -1)
    every, drawn = (columns_of(inputs, geometry_of(module), limit) for limit in (None, 50))
    assert drawn.shape == (3, 18, 50)
    assert torch.equal(drawn[0, :9], drawn[2, 9:])
    at = torch.cdist(drawn[0].T, every[0].T).argmin(1)
    assert torch.equal(every[:, :, at], drawn) and at.unique().numel() == 50
    assert torch.equal(columns_of(inputs, geometry_of(module), 50), drawn)
    other = columns_of(inputs, geometry_of(module), 50, torch.Generator().manual_seed(1))
    assert not torch.equal(other, drawn)


def test_two_inputs_of_one_layer_are_drawn_alike():
    inputs, geometry = torch.randn(4, 2, 8, 8), geometry_of(nn.Conv2d(2, 2, 3))
    one, two = columns_in_two(inputs, inputs * 2, geometry, 30, None)
    assert torch.equal(one * 2, two) and one.shape == (1, 18, 30)


def test_rule_10_and_errors_are_sentences():
    transposed = geometry_of(nn.ConvTranspose2d(2, 2, 3))
    assert transposed.kind == "conv_transpose"
    with pytest.raises(PosttrainingError, match="transposed"):
        columns_of(torch.randn(1, 2, 4, 4), transposed)
    with pytest.raises(PosttrainingError, match="neither"):
        geometry_of(nn.ReLU())
    with pytest.raises(PosttrainingError, match="smaller than the kernel"):
        columns_of(torch.randn(1, 2, 2, 2), geometry_of(nn.Conv2d(2, 2, 3)))
    with pytest.raises(PosttrainingError, match="does not fit"):
        columns_of(torch.randn(4, 4), geometry_of(nn.Conv2d(2, 2, 3)))
    assert geometry_of(nn.Conv2d(4, 8, 1, groups=4)).kind == "depthwise"
