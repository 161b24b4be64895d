"""MobileNetV1: a convolution, thirteen depthwise-separable blocks, and a classifier.

    block: 3x3 depthwise, batch norm, activation, 1x1 convolution, batch norm, activation

TensorFlow pads a stride-2 convolution unevenly (SAME: the odd zero goes to the right and to the bottom),
torch evenly; weights trained with one are several points worse with the other, so the padding is an option.

Source: Howard et al. 2017 (1704.04861), table 1.
"""

import re
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.zoo.catalogue import OwnModel, Renaming, own_models
from secateur.zoo.preprocessing import Preprocessing

# (output channels, stride) of the thirteen blocks
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
)
STEM = 32

ACTIVATIONS = {
    "relu": partial(nn.ReLU, inplace=True),
    "relu6": partial(nn.ReLU6, inplace=True),
    "leaky_relu": partial(nn.LeakyReLU, 0.1, inplace=True),
}
PADDINGS = ("tensorflow", "torch")


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis of `size`, so that the output has ceil(size / stride) positions."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution without padding of its own that pads its input as TensorFlow's SAME does."""

    def forward(self, input: Tensor) -> Tensor:
        top, bottom = same_padding(input.shape[2], self.kernel_size[0], self.stride[0])
        left, right = same_padding(input.shape[3], self.kernel_size[1], self.stride[1])
        return super().forward(F.pad(input, (left, right, top, bottom)))


def _convolution(inputs: int, outputs: int, stride: int, padding: str, groups: int = 1) -> nn.Conv2d:
    # With stride 1 the two paddings are the same.
    if padding == "tensorflow" and stride > 1:
        return SameConv2d(inputs, outputs, 3, stride, 0, groups=groups, bias=False)
    return nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False)


class Stem(nn.Module):
    """Full 3x3 convolution, batch norm, activation."""

    def __init__(self, outputs: int, stride: int, padding: str, activation: str, bn_eps: float) -> None:
        super().__init__()
        self.conv = _convolution(3, outputs, stride, padding)
        self.bn = nn.BatchNorm2d(outputs, bn_eps)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.bn(self.conv(x)))


class SeparableBlock(nn.Module):
    """Depthwise and pointwise convolution, each with batch norm and activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, padding: str, activation: str, bn_eps: float) -> None:
        super().__init__()
        self.depthwise = _convolution(inputs, inputs, stride, padding, groups=inputs)
        self.depthwise_bn = nn.BatchNorm2d(inputs, bn_eps)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pointwise_bn = nn.BatchNorm2d(outputs, bn_eps)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.depthwise_bn(self.depthwise(x)))
        return self.activation(self.pointwise_bn(self.pointwise(x)))


class MobileNetV1(nn.Module):
    """(batch, 3, height, width) -> (batch, classes).

    width       multiplies every channel count
    padding     of the stride-2 convolutions: tensorflow or torch
    activation  relu6, relu or leaky_relu (slope 0.1)
    bn_eps      epsilon of every batch norm
    """

    def __init__(
        self,
        classes: int,
        width: float,
        padding: str,
        activation: str,
        bn_eps: float,
        stem_stride: int = 2,
    ) -> None:
        super().__init__()
        if padding not in PADDINGS:
            raise ModelError(f"padding '{padding}' is not one of {', '.join(PADDINGS)}.")
        if activation not in ACTIVATIONS:
            raise ModelError(f"activation '{activation}' is not one of {', '.join(ACTIVATIONS)}.")
        common = {"padding": padding, "activation": activation, "bn_eps": bn_eps}
        inputs = int(STEM * width)
        self.stem = Stem(inputs, stem_stride, **common)
        blocks: list[nn.Module] = []
        for channels, stride in BLOCKS:
            outputs = int(channels * width)
            blocks.append(SeparableBlock(inputs, outputs, stride, **common))
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(self.stem(x)).mean((2, 3)))


_STAGE_START = {"1": 0, "2": 6, "3": 12}
_BLOCK_PARTS = {"0": "depthwise", "1": "depthwise_bn", "3": "pointwise", "4": "pointwise_bn"}


def from_stages(name: str) -> str:
    """Our name of a tensor of the 'stage1.0.0' naming; other names are returned as they are.

    Three sequences hold the stem with 5 blocks, 6 blocks and 2 blocks; within a block 0 and 3 are
    convolutions, 1 and 4 batch norms.
    """
    if name.startswith("fc."):
        return "classifier." + name.removeprefix("fc.")
    found = re.fullmatch(r"stage([123])\.(\d+)\.(\d+)\.(\w+)", name)
    if not found:
        return name
    stage, position, part, tensor = found.groups()
    layer = _STAGE_START[stage] + int(position)
    if layer == 0:
        return f"stem.{'conv' if part == '0' else 'bn'}.{tensor}"
    return f"blocks.{layer - 1}.{_BLOCK_PARTS.get(part, part)}.{tensor}"


# The detection backbones that use these names are torch-trained, so their convolutions pad evenly.
STAGES = Renaming("stage1.0.0.weight", from_stages, {"padding": "torch", "activation": "leaky_relu", "bn_eps": 1e-5})

for _percent in (100, 75, 50, 25):
    own_models.register(f"mobilenet_v1_{_percent:03d}_imagenet")(
        OwnModel(
            partial(MobileNetV1, width=_percent / 100),
            f"MobileNetV1 x{_percent / 100:g}, TensorFlow or torch padding",
            1000,
            Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3),
            {"padding": "tensorflow", "activation": "relu6", "bn_eps": 1e-3},
            (STAGES,),
        )
    )
