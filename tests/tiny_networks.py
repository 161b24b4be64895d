"""A network and images small enough to run the whole pipeline in seconds; named `tiny_networks:...` in recipes."""

import numpy as np
import torch
from torch import nn

from secateur import zoo
from secateur.zoo.image_data import ArrayImages


class Tiny(nn.Module):
    """Convolutions, a depthwise one, batch norm and a classifier for 3x16x16 images."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.preprocessing = zoo.Preprocessing(input_size=(3, 16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = nn.Conv2d(16, 18, 1)
        self.classifier = nn.Linear(18, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.depthwise(torch.relu(self.body(x))))
        return self.classifier(torch.relu(self.point(x)).mean(dim=(2, 3)))


class LeNet(nn.Module):
    """Written for maps that are contiguous, as much code is: `view` refuses any others."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.preprocessing = zoo.Preprocessing(input_size=(3, 16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.conv2 = nn.Conv2d(8, 16, 3)
        self.fc1 = nn.Linear(16 * 2 * 2, 24)
        self.fc2 = nn.Linear(24, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = x.view(-1, 16 * 2 * 2)
        return self.fc2(torch.relu(self.fc1(x)))


class Block(nn.Module):
    """A residual block, with or without an activation after the sum."""

    def __init__(self, channels: int, activation: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + self.conv2(torch.relu(self.bn1(self.conv1(x))))
        return torch.relu(y) if self.activation else y


class Residual(nn.Module):
    """Three residual blocks for 3x16x16 images; the second sum has no activation behind it."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.preprocessing = zoo.Preprocessing(input_size=(3, 16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(Block(8), Block(8, activation=False), Block(8))
        self.classifier = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.blocks(torch.relu(self.stem(x))).mean(dim=(2, 3)))


def network(classes: int = 4) -> nn.Module:
    return Tiny(classes)


def residual(classes: int = 4) -> nn.Module:
    return Residual(classes)


def images() -> zoo.ImageData:
    """Four classes of noise around four brightness levels: learnable in a few steps."""
    generator = np.random.default_rng(0)

    def split(count: int) -> ArrayImages:
        labels = np.arange(count) % 4
        pixels = 40 + 50 * labels[:, None, None, None] + generator.integers(0, 40, (count, 16, 16, 3))
        return ArrayImages(pixels.astype(np.uint8), labels.astype(np.int64))

    return zoo.ImageData("tiny", split(96), split(32), ("a", "b", "c", "d"))


def broken_images() -> zoo.ImageData:
    """Images of which the test split cannot be read."""
    whole = images()

    class Broken(ArrayImages):
        def __getitem__(self, index: int, /):
            from secateur.errors import DataError

            raise DataError("images/a/7.png: cannot be read as an image; remove or replace it.")

    return zoo.ImageData("broken", whole.train, Broken(whole.test.pixels, whole.test.labels), whole.classes)


RECIPE = """
model: {name: "tiny_networks:network"}
data: {name: "tiny_networks:images"}
seed: 3
stages:
  - {stage: train, training: {epochs: 2, batch_size: 16, learning_rate: 0.05, checkpoint_seconds: 0.001}}
  - {stage: evaluate}
  - stage: sparsify
    pattern: 1x4
    sparsity: 0.5
    base: selected
    schedule: {kind: agp, end: 3}
    training: {epochs: 3, batch_size: 16, checkpoint_seconds: 0.001}
    distillation: {}
  - {stage: evaluate}
  - {stage: export, check_images: 8}
  - {stage: benchmark, runtimes: [onnxruntime], repeats: 3, warmup: 1, threads: [1], accuracy_images: 8}
  - {stage: report}
"""
