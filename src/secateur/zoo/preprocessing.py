"""How an image becomes the tensor that a network was trained on.

    x = (pixels / 255 - mean) / std        after: resize the short side to size / crop_pct, cut the centre

It travels with the weights and comes from the model's own configuration; nothing here guesses.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from secateur.errors import ModelError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects of its input.

    input_size     (channels, height, width)
    mean, std      one number per channel, on the scale 0..1, in the network's channel order
    interpolation  of the resize: nearest, bilinear, bicubic or lanczos
    crop_pct       input side / side that the image is resized to before the centre is cut out
    channels       order in which the network reads them: rgb or bgr

    raises  ModelError  when a value is impossible
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"
    crop_pct: float = 0.875
    channels: str = "rgb"

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "input_size", _input_size(self.input_size))
        set_(self, "mean", _per_channel("mean", self.mean, self.input_size[0]))
        set_(self, "std", _per_channel("std", self.std, self.input_size[0]))
        if min(self.std) <= 0:
            raise ModelError(f"std of the input must be positive, it is {self.std}.")
        if self.interpolation not in INTERPOLATIONS:
            raise ModelError(f"interpolation '{self.interpolation}' is not one of {', '.join(INTERPOLATIONS)}.")
        if not 0 < self.crop_pct <= 1:
            raise ModelError(f"crop_pct must be above 0 and at most 1, it is {self.crop_pct}.")
        if self.channels not in ("rgb", "bgr"):
            raise ModelError(f"channels must be rgb or bgr, not '{self.channels}'.")

    @property
    def resize_to(self) -> int:
        """Pixels of the short side before the centre is cut."""
        return round(min(self.input_size[1:]) / self.crop_pct)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`; absent keys keep their defaults. raises ModelError."""
        if unknown := sorted(set(values) - set(FIELDS)):
            raise ModelError(f"preprocessing has no '{unknown[0]}'; it has {', '.join(FIELDS)}.")
        try:
            return Preprocessing(**values)
        except (TypeError, ValueError) as error:
            raise ModelError(f"preprocessing has a value of the wrong type: {error}.") from error


FIELDS = tuple(field.name for field in fields(Preprocessing))


def _input_size(value: Any) -> tuple[int, int, int]:
    """One side (a square RGB input), (height, width) or (channels, height, width)."""
    sizes = (value,) if isinstance(value, int) else tuple(value)
    if len(sizes) == 1:
        sizes = (3, *sizes, *sizes)
    elif len(sizes) == 2:
        sizes = (3, *sizes)
    whole = all(isinstance(size, int) and 0 < size <= 1 << 14 for size in sizes)
    if len(sizes) != 3 or not whole or sizes[0] not in (1, 3):
        raise ModelError(f"input_size must be (1 or 3 channels, height, width), it is {value!r}.")
    return sizes


def _per_channel(name: str, value: float | Sequence[float], channels: int) -> tuple[float, ...]:
    try:
        numbers = (float(value),) * channels if isinstance(value, int | float) else tuple(map(float, value))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{name} must be {channels} numbers, it is {value!r}.") from error
    if len(numbers) != channels or not all(map(math.isfinite, numbers)):
        raise ModelError(f"{name} must be {channels} finite numbers, it is {value!r}.")
    return numbers


def from_torchvision(transforms: Any) -> Preprocessing:
    """Of the preset `transforms()` that comes with a torchvision weights enum."""
    crop, resize = transforms.crop_size[0], transforms.resize_size[0]
    return Preprocessing(
        (3, crop, crop),
        tuple(transforms.mean),
        tuple(transforms.std),
        transforms.interpolation.value,
        crop / resize,
    )


def from_timm(config: Mapping[str, Any]) -> Preprocessing:
    """Of a timm model's `pretrained_cfg`."""
    return Preprocessing(
        tuple(config["input_size"]),
        tuple(config["mean"]),
        tuple(config["std"]),
        config["interpolation"],
        float(config["crop_pct"]),
    )


# Of our own networks for 32x32 images, until a weights file says otherwise.
CIFAR10 = Preprocessing((3, 32, 32), CIFAR10_MEAN, CIFAR10_STD, crop_pct=1.0)
