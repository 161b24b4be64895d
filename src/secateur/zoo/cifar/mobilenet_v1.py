"""MobileNetV1 for 32x32 images: stride 1 in the first convolution, the last map is 2x2."""

from functools import partial

from secateur.zoo.catalogue import OwnModel, own_models
from secateur.zoo.mobilenet_v1 import MobileNetV1
from secateur.zoo.preprocessing import CIFAR10

own_models.register("mobilenet_v1_cifar10")(
    OwnModel(
        partial(MobileNetV1, padding="torch", activation="relu", bn_eps=1e-5, stem_stride=1),
        "MobileNetV1 for 32x32 images",
        10,
        CIFAR10,
        {"width": 1.0},
    )
)
