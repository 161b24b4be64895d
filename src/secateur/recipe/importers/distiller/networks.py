"""Distiller's networks under our names, and its parameters as our layers.

module.layer1.0.conv1.weight    layer1.0.conv1
resnet20_cifar                  resnet20b_cifar10: its shortcuts are convolutions
mobilenet                       mobilenet_v1_100_imagenet, trained with torch's padding; other layer names
"""

import re
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Network:
    """One of Distiller's architectures as we have it.

    data    the images that it is for, where it says
    """

    model: str
    data: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


_MOBILENET = {"mobilenet": "100", "mobilenet_075": "075", "mobilenet_050": "050", "mobilenet_025": "025"}
_BLOCK = {"0": "depthwise", "3": "pointwise"}


def network_of(arch: str) -> Network:
    """Our name of an architecture; those of torchvision are the same here and there."""
    found = re.fullmatch(r"resnet(\d+)_cifar(?:10)?", arch)
    if found:
        return Network(f"resnet{found[1]}b_cifar10", "cifar10")
    if arch in _MOBILENET:
        options = {"padding": "torch", "activation": "relu", "bn_eps": 1e-5}
        return Network(f"mobilenet_v1_{_MOBILENET[arch]}_imagenet", None, options)
    return Network(arch)


def layer_of(parameter: str, arch: str | None = None) -> str:
    """Our name of the layer that a parameter of Distiller belongs to."""
    name = parameter.removeprefix("module.").removesuffix(".weight")
    if arch in _MOBILENET:
        return _of_mobilenet(name)
    return name


def _of_mobilenet(name: str) -> str:
    if name == "fc":
        return "classifier"
    found = re.fullmatch(r"model\.(\d+)\.([03])", name)
    if found is None:
        return name
    block = int(found[1])
    return f"blocks.{block - 1}.{_BLOCK[found[2]]}" if block else "stem.conv"


def parameter_of(layer: str, arch: str | None = None) -> str:
    """Distiller's name of one of our layers, without `module.` and `.weight`."""
    if arch not in _MOBILENET:
        return layer
    if layer == "classifier":
        return "fc"
    if layer == "stem.conv":
        return "model.0.0"
    found = re.fullmatch(r"blocks\.(\d+)\.(depthwise|pointwise)", layer)
    if found is None:
        return layer
    place = next(place for place, part in _BLOCK.items() if part == found[2])
    return f"model.{int(found[1]) + 1}.{place}"
