"""Networks for 32x32 images, one file per family; importing this registers them."""

from secateur.zoo.cifar import mobilenet_v1, mobilenet_v2, resnet, resnet18, shufflenet_v2, vgg

__all__ = ["mobilenet_v1", "mobilenet_v2", "resnet", "resnet18", "shufflenet_v2", "vgg"]
