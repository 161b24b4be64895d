"""What data says about a layer, for criteria that look at more than weights; plain tensors, filter first.

    activations    x, what the layer gets, and y, what it gives, behind its norm where one follows
    gradients      g = dL/dw of single images, before any weight was removed

`secateur.training.gather_statistics` fills them from images.
"""

from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T", "ActivationStatistics", "GradientStatistics")


@dataclass(frozen=True)
class ActivationStatistics:
    """Means over images and positions.

    input_square     (C_in, kernel...)  x^2 of every input position: the diagonal of the Gram matrix over its columns
    zero_share       (C_out,)           share of y <= 0: what a ReLU makes zero
    mean_activation  (C_out,)           max(y, 0)
    """

    input_square: Tensor
    zero_share: Tensor
    mean_activation: Tensor


@dataclass(frozen=True)
class GradientStatistics:
    """Means over images.

    gradient         as the weight      g
    gradient_square  as the weight      g^2
    filter_square    (C_out,)           (sum over a filter of g w)^2
    filter_absolute  (C_out,)           |sum over a filter of g w|
    """

    gradient: Tensor
    gradient_square: Tensor
    filter_square: Tensor
    filter_absolute: Tensor


@dataclass(frozen=True)
class LayerStatistics:
    """What was gathered of one layer, from `images` images."""

    images: int
    activations: ActivationStatistics | None = None
    gradients: GradientStatistics | None = None

    def to(self, device: torch.device) -> "LayerStatistics":
        """The same on another device."""
        activations = None if self.activations is None else _moved(self.activations, device)
        gradients = None if self.gradients is None else _moved(self.gradients, device)
        return LayerStatistics(self.images, activations, gradients)


def _moved(statistics: T, device: torch.device) -> T:
    return type(statistics)(*(getattr(statistics, field.name).to(device) for field in fields(statistics)))
