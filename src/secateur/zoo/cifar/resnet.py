"""Residual networks for 32x32 images: 6n+2 layers in three stages of 16, 32 and 64 channels.

Source: He et al. 2016, section 4.2. Two shortcuts where a stage halves the image:
option A keeps every second pixel and pads the new channels with zeros (no weights);
option B is a 1x1 convolution with batch norm. `resnet20_cifar10` has A, `resnet20b_cifar10` has B.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from secateur.zoo.catalogue import OwnModel, own_models
from secateur.zoo.preprocessing import CIFAR10

DEPTHS = (20, 32, 44, 56, 110)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, convolution_shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs
        self.downsample: nn.Module | None = None
        if self.added and convolution_shortcut:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.downsample is not None:
            return self.downsample(x)
        if not self.added:
            return x
        thinned = x[:, :, :: self.stride, :: self.stride]
        return F.pad(thinned, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))


class CifarResNet(nn.Module):
    """(batch, 3, 32, 32) -> (batch, classes); the head is `linear` with option A, `fc` with option B."""

    def __init__(self, depth: int, classes: int, convolution_shortcut: bool) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)

        def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            first = BasicBlock(inputs, outputs, stride, convolution_shortcut)
            others = (BasicBlock(outputs, outputs, 1, convolution_shortcut) for _ in range(blocks - 1))
            return nn.Sequential(first, *others)

        self.layer1 = stage(16, 16, 1)
        self.layer2 = stage(16, 32, 2)
        self.layer3 = stage(32, 64, 2)
        # Published weights of the two variants name the classifier differently; a file must load as it is.
        self.head_name = "fc" if convolution_shortcut else "linear"
        self.add_module(self.head_name, nn.Linear(64, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.get_submodule(self.head_name)(x.mean((2, 3)))


for _depth in DEPTHS:
    for _suffix, _convolution, _shortcut in (("", False, "option-A"), ("b", True, "convolution")):
        own_models.register(f"resnet{_depth}{_suffix}_cifar10")(
            OwnModel(
                partial(CifarResNet, _depth, convolution_shortcut=_convolution),
                f"ResNet-{_depth} for 32x32 images, {_shortcut} shortcuts",
                10,
                CIFAR10,
            )
        )
