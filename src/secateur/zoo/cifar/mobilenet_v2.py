"""MobileNetV2 for 32x32 images: torchvision's, with stride 1 in the stem and in the second stage.

Source: Sandler et al. 2018; the strides are the field's custom for CIFAR-10 (the last map is 4x4).
"""

from torch import nn

from secateur.zoo.catalogue import OwnModel, own_models
from secateur.zoo.preprocessing import CIFAR10
from secateur.zoo.torchvision_guard import import_torchvision

# (expansion, channels, blocks, stride of the first block)
STAGES = [
    [1, 16, 1, 1],
    [6, 24, 2, 1],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]


def cifar_mobilenet_v2(classes: int, width: float) -> nn.Module:
    """(batch, 3, 32, 32) -> (batch, classes); tensors are named as in torchvision's mobilenet_v2."""
    network = import_torchvision("models").mobilenet_v2(
        num_classes=classes, width_mult=width, inverted_residual_setting=STAGES
    )
    network.features[0][0].stride = (1, 1)
    return network


own_models.register("mobilenet_v2_cifar10")(
    OwnModel(cifar_mobilenet_v2, "MobileNetV2 for 32x32 images", 10, CIFAR10, {"width": 1.0})
)
