"""Filter-first views: a transposed convolution is masked as the convolution that it is the transpose of."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from secateur.sparsity import as_stored, filters_first, layers_of, make_mask, masks, parse_pattern, sparsify_

SPECS = ["unstructured", "1x2", "1x2-fine", "kernel", "filter", "channel", "4in", "2:4", "2:4-2d", "block:2x2x1x1"]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.sampled_from([(1,), (3, 2), (2, 2, 2)]))
def test_the_view_is_filter_first_and_its_own_way_back(groups, inputs, outputs, kernel):
    stored = torch.arange(groups * inputs * outputs * 8.0)[: groups * inputs * outputs].reshape(
        groups * inputs, outputs, *(1 for _ in kernel)
    )
    stored = stored.expand(-1, -1, *kernel)
    view = filters_first(stored, "conv_transpose", groups)
    assert view.shape == (groups * outputs, inputs, *kernel)
    assert torch.equal(as_stored(view, "conv_transpose", groups), stored)
    for group in range(groups):
        for channel in range(inputs):
            for out in range(outputs):
                assert torch.equal(view[group * outputs + out, channel], stored[group * inputs + channel, out])


def test_what_is_no_transposed_convolution_stays_as_it_is():
    weight = torch.rand(4, 3, 2, 2)
    assert filters_first(weight, "conv", 1) is weight and as_stored(weight, "linear", 1) is weight


def test_shapes_of_layers_are_filter_first():
    layers = layers_of(nn.Sequential(nn.ConvTranspose2d(8, 6, 3, groups=2), nn.Conv2d(6, 4, (1, 3)), nn.Linear(4, 2)))
    assert [layer.filter_shape for layer in layers] == [(6, 4, 3, 3), (4, 6, 1, 3), (2, 4)]
    assert layers[0].shape == (8, 3, 3, 3)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SPECS), st.integers(1, 2), st.integers(0, 100))
def test_a_transposed_convolution_loses_what_its_view_loses(spec, groups, seed):
    torch.manual_seed(seed)
    layer = nn.ConvTranspose2d(8 * groups, 4 * groups, 2, groups=groups)
    view = filters_first(layer.weight.detach(), "conv_transpose", groups)
    wanted = make_mask(view.abs(), parse_pattern(spec), 0.5, groups=groups)
    model = nn.Sequential(layer, nn.Linear(2, 2))
    sparsify_(model, None if spec.startswith("2:4") else 0.5, spec, base="selected", include_first=True)
    assert torch.equal(filters_first(masks(model)["0"], "conv_transpose", groups), wanted)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_removed_filter_of_a_transposed_convolution_gives_only_its_bias(groups):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 6, 3, groups=groups)
    model = nn.Sequential(layer, nn.Linear(2, 2))
    sparsify_(model, 0.5, "filter", base="selected", include_first=True)
    with torch.no_grad():
        outputs = layer(torch.randn(1, 4, 5, 5))
        constant = (outputs - layer.bias.reshape(1, -1, 1, 1)).abs().amax((0, 2, 3)) == 0
    assert int(constant.sum()) == 3
    assert torch.equal(constant, ~filters_first(masks(model)["0"], "conv_transpose", groups).flatten(1).any(1))
