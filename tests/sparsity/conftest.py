"""Networks that the tests of this room share."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from secateur.zoo.torchvision_guard import import_torchvision


@pytest.fixture(scope="session")
def resnet() -> Callable[[int], nn.Module]:
    """torchvision's ResNet of a depth, random weights without a single zero."""
    models = import_torchvision("models")

    def build(depth: int) -> nn.Module:
        torch.manual_seed(0)
        model = getattr(models, f"resnet{depth}")()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data[parameter.data == 0] = 1e-3
        return model

    return build
