"""VGG-16 for 32x32 images: thirteen 3x3 convolutions with batch norm, and one hidden layer of 512.

Source: Simonyan & Zisserman 2015, configuration D; the small classifier is that of Li et al. 2017
(1608.08710, section 4.1).
"""

from torch import Tensor, nn

from secateur.zoo.catalogue import OwnModel, own_models
from secateur.zoo.preprocessing import CIFAR10

# Channels of the convolutions of each stage; a stage ends with 2x2 max pooling.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class CifarVgg16(nn.Module):
    """(batch, 3, 32, 32) -> (batch, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for stage in STAGES:
            for outputs in stage:
                layers += [
                    nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(inplace=True),
                ]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Linear(512, classes)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


own_models.register("vgg16_cifar10")(OwnModel(CifarVgg16, "VGG-16 with batch norm for 32x32 images", 10, CIFAR10))
