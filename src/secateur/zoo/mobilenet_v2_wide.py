"""MobileNetV2 of twice the width, which neither torchvision nor timm lists under a name."""

from torch import nn

from secateur.zoo.catalogue import OwnModel, own_models
from secateur.zoo.preprocessing import Preprocessing
from secateur.zoo.torchvision_guard import import_torchvision


def mobilenet_v2_wide(classes: int) -> nn.Module:
    """(batch, 3, height, width) -> (batch, classes); tensors are named as in torchvision's mobilenet_v2."""
    return import_torchvision("models").mobilenet_v2(num_classes=classes, width_mult=2.0)


own_models.register("mobilenetv2_200")(
    OwnModel(mobilenet_v2_wide, "MobileNetV2 x2, torchvision's network", 1000, Preprocessing())
)
