"""ShuffleNetV2 x0.5 for 32x32 images: stride 1 in the first convolution and no max pooling.

Source: Ma et al. 2018. A unit works on half of the channels, and a channel shuffle mixes the halves.
"""

import torch
from torch import Tensor, nn

from secateur.zoo.catalogue import OwnModel, own_models
from secateur.zoo.preprocessing import CIFAR10

STEM, STAGE_CHANNELS, STAGE_UNITS, LAST = 24, (48, 96, 192), (4, 8, 4), 1024


def shuffle_two_groups(x: Tensor) -> Tensor:
    """Interleave the first and the second half of the channels: 0, n/2, 1, n/2 + 1, ..."""
    channels, height, width = x.shape[1:]
    # -1 for the batch: the only size that an exported graph leaves open.
    return x.reshape(-1, 2, channels // 2, height, width).transpose(1, 2).reshape(-1, channels, height, width)


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
    ]


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class Unit(nn.Module):
    """Stride 1: half of the channels pass by. Stride 2: both branches see all channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.branch1 = nn.Sequential()
        if stride == 2:
            self.branch1 = nn.Sequential(*_depthwise(inputs, 2), *_pointwise(inputs, half))
        self.branch2 = nn.Sequential(
            *_pointwise(inputs if stride == 2 else half, half),
            *_depthwise(half, stride),
            *_pointwise(half, half),
        )
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        left, right = (x, x) if self.stride == 2 else x.chunk(2, dim=1)
        return shuffle_two_groups(torch.cat((self.branch1(left), self.branch2(right)), dim=1))


class CifarShuffleNetV2(nn.Module):
    """(batch, 3, 32, 32) -> (batch, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, STEM, 3, 1, 1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU(inplace=True))
        inputs = STEM
        for number, (outputs, units) in enumerate(zip(STAGE_CHANNELS, STAGE_UNITS, strict=True), start=2):
            rest = (Unit(outputs, outputs, 1) for _ in range(units - 1))
            self.add_module(f"stage{number}", nn.Sequential(Unit(inputs, outputs, 2), *rest))
            inputs = outputs
        self.conv5 = nn.Sequential(*_pointwise(inputs, LAST))
        self.fc = nn.Linear(LAST, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for number in range(2, 2 + len(STAGE_UNITS)):
            x = self.get_submodule(f"stage{number}")(x)
        return self.fc(self.conv5(x).mean((2, 3)))


own_models.register("shufflenetv2_x0_5_cifar10")(
    OwnModel(CifarShuffleNetV2, "ShuffleNetV2 x0.5 for 32x32 images", 10, CIFAR10)
)
