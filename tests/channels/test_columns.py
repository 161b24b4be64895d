"""What layers read at single positions: its product with the weights is the output there."""

import pytest
import torch
from torch import nn

from secateur.channels.columns import columns_at, draw_places, outputs_at
from secateur.sparsity import Layer, filters_first
from secateur.sparsity.layers import layers_of

LAYERS = {
    "plain": (nn.Conv2d(4, 6, 3, bias=False), (2, 4, 9, 7)),
    "stride and padding": (nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), bias=False), (2, 4, 9, 8)),
    "same": (nn.Conv2d(4, 6, 4, padding="same", bias=False), (2, 4, 9, 8)),
    "circular": (nn.Conv2d(4, 6, 3, padding=2, padding_mode="circular", bias=False), (2, 4, 6, 8)),
    "dilation": (nn.Conv2d(4, 6, 3, dilation=(2, 1), padding=1, bias=False), (2, 4, 9, 8)),
    "groups": (nn.Conv2d(4, 6, 3, groups=2, bias=False), (2, 4, 5, 5)),
    "1d": (nn.Conv1d(4, 6, 3, stride=2, bias=False), (2, 4, 11)),
    "3d": (nn.Conv3d(2, 3, (1, 2, 3), padding=(0, 1, 1), bias=False), (2, 2, 3, 4, 5)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, bias=False), (2, 4, 5, 4)),
    "transposed, dilated": (nn.ConvTranspose2d(4, 6, (3, 2), stride=3, dilation=2, bias=False), (2, 4, 5, 4)),
    "transposed, grouped": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, bias=False), (2, 4, 5, 4)),
    "linear": (nn.Linear(5, 3, bias=False), (4, 5)),
    "linear on tokens": (nn.Linear(5, 3, bias=False), (2, 6, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("count", [5, 1000])
def test_columns_times_weights_are_the_outputs(name, count):
    module, shape = LAYERS[name]
    layer: Layer = layers_of(nn.Sequential(module))[0]
    inputs = torch.randn(shape)
    with torch.no_grad():
        output = module(inputs)
        places = draw_places(output, module, count, torch.Generator().manual_seed(0))
        columns = columns_at(inputs, output, module, places)
        weight = filters_first(module.weight, layer.kind, layer.groups).flatten(1)
    groups = layer.groups
    x = columns.reshape(len(columns), groups, -1)
    w = weight.reshape(groups, len(weight) // groups, -1)
    found = torch.einsum("sgi,goi->sgo", x, w).flatten(1)
    torch.testing.assert_close(found, outputs_at(output, module, places), rtol=1e-4, atol=1e-5)


def test_few_positions_all_count_and_many_are_drawn_for_every_image():
    module = nn.Conv2d(1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    assert draw_places(torch.zeros(2, 1, 2, 2), module, 4, generator).tolist() == [[0, 1, 2, 3]] * 2
    drawn = draw_places(torch.zeros(3, 1, 20, 20), module, 10, generator)
    assert drawn.shape == (3, 10) and not torch.equal(drawn[0], drawn[1]) and int(drawn.max()) < 400
    again = draw_places(torch.zeros(3, 1, 20, 20), module, 10, torch.Generator().manual_seed(0))
    assert torch.equal(again, draw_places(torch.zeros(3, 1, 20, 20), module, 10, torch.Generator().manual_seed(0)))
