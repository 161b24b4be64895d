"""ResNet-18 for 32x32 images: torchvision's, with a 3x3 first convolution of stride 1 and no max pooling.

Source: He et al. 2016; the change of the stem is the field's custom for CIFAR-10.
"""

from torch import nn

from secateur.zoo.catalogue import OwnModel, own_models
from secateur.zoo.preprocessing import CIFAR10
from secateur.zoo.torchvision_guard import import_torchvision


def cifar_resnet18(classes: int) -> nn.Module:
    """(batch, 3, 32, 32) -> (batch, classes); tensors are named as in torchvision's resnet18."""
    network = import_torchvision("models").resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return network


own_models.register("resnet18_cifar10")(OwnModel(cifar_resnet18, "ResNet-18 for 32x32 images", 10, CIFAR10))
