import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.zoo import model
from secateur.zoo.mobilenet_v1 import SameConv2d, from_stages, same_padding


@given(st.integers(1, 300), st.integers(1, 7), st.integers(1, 4))
def test_same_padding_gives_the_output_size_of_tensorflow(size: int, kernel: int, stride: int) -> None:
    before, after = same_padding(size, kernel, stride)
    outputs = (size + before + after - kernel) // stride + 1
    assert 0 <= before <= after <= before + 1
    if before + after:  # no zeros more than the last window needs
        assert (outputs - 1) * stride + kernel == size + before + after
    assert outputs == -(-size // stride) or kernel < stride


@pytest.mark.parametrize(("size", "zeros"), [(224, (0, 1)), (223, (1, 1)), (7, (1, 1))])
def test_stride_two_pads_unevenly_on_even_sizes(size: int, zeros: tuple[int, int]) -> None:
    assert same_padding(size, 3, 2) == zeros


def test_same_convolution_is_a_padded_convolution() -> None:
    layer = SameConv2d(2, 3, 3, 2)
    x = torch.rand(1, 2, 8, 8)
    expected = F.conv2d(F.pad(x, (0, 1, 0, 1)), layer.weight, layer.bias, 2)
    assert torch.equal(layer(x), expected)
    shifted = F.conv2d(x, layer.weight, layer.bias, 2, padding=1)
    assert expected.shape == shifted.shape and not torch.allclose(expected, shifted)


def test_options_reach_the_layers() -> None:
    module = model("mobilenet_v1_025_imagenet", padding="torch", activation="leaky_relu", bn_eps=1e-5)
    kinds = {type(layer) for layer in module.modules()}
    assert nn.LeakyReLU in kinds and nn.ReLU6 not in kinds and SameConv2d not in kinds
    assert {layer.eps for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)} == {1e-5}
    plain = model("mobilenet_v1_025_imagenet")
    kinds = {type(layer) for layer in plain.modules()}
    assert nn.ReLU6 in kinds and SameConv2d in kinds


def test_parameters_of_the_paper() -> None:
    assert sum(p.numel() for p in model("mobilenet_v1_100_imagenet").parameters()) == 4_231_976  # 4.2 M
    assert sum(p.numel() for p in model("mobilenet_v1_025_imagenet").parameters()) == 470_072  # 0.5 M


def test_other_naming_reaches_every_tensor_once() -> None:
    theirs = [f"stage1.0.{part}" for part in ("0.weight", "1.weight", "1.bias")]
    theirs += [
        f"stage{stage}.{block}.{part}.weight"
        for stage, blocks in ((1, range(1, 6)), (2, range(6)), (3, range(2)))
        for block in blocks
        for part in (0, 1, 3, 4)
    ]
    ours = {from_stages(name) for name in (*theirs, "fc.weight", "fc.bias")}
    module = model("mobilenet_v1_025_imagenet")
    assert len(ours) == len(theirs) + 2 and ours <= set(module.state_dict())
    assert from_stages("stage2.0.3.weight") == "blocks.5.pointwise.weight"
    assert from_stages("unrelated.weight") == "unrelated.weight"
