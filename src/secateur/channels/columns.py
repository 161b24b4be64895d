"""What a layer reads at single positions of its output.

    y[p, o] = sum over c, k of  x[c, s p - padding + d k] w[o, c, k]  =  <columns[p], w[o]>

For a transposed convolution the entries that no position k reaches are zero, so that the same sum holds. Positions
are drawn for every image, with replacement; where an output has no more than are asked for, all of them count.
Source: ALGORITHMS.md E10 (10 random output positions); our own indexing.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd  # pyright: ignore[reportPrivateUsage]


def draw_places(output: Tensor, module: nn.Module, count: int, generator: Generator) -> Tensor:
    """(images, positions) int64: positions of an output, counted over its flattened map.

    output    (images, channels, side, ...) of a convolution, (images, ..., features) of a linear layer
    """
    places = math.prod(_sides(output, module))
    if places <= count:
        return torch.arange(places).expand(len(output), -1).to(output.device)
    return torch.randint(places, (len(output), count), generator=generator).to(output.device)


def outputs_at(output: Tensor, module: nn.Module, places: Tensor) -> Tensor:
    """(images x positions, channels) of an output, or of anything else in its shape."""
    by_place = output.flatten(2).transpose(1, 2) if isinstance(module, _ConvNd) else _as_tokens(output)
    index = places[:, :, None].expand(-1, -1, by_place.shape[2])
    return by_place.gather(1, index).flatten(0, 1)


def columns_at(inputs: Tensor, output: Tensor, module: nn.Module, places: Tensor) -> Tensor:
    """(images x positions, input channels, kernel positions): what the layer multiplies with its weights."""
    if not isinstance(module, _ConvNd):
        return outputs_at(inputs, module, places)[:, :, None]
    transposed = isinstance(module, _ConvTransposeNd)
    if not transposed:
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        inputs = F.pad(inputs, module._reversed_padding_repeated_twice, mode=mode)
    at = torch.unravel_index(places, tuple(output.shape[2:]))
    sides: Sequence[int] = inputs.shape[2:]
    index = torch.zeros((*places.shape, 1), dtype=torch.long, device=places.device)
    inside = torch.ones_like(index, dtype=torch.bool)
    for axis, side in enumerate(sides):
        stride, dilation = module.stride[axis], module.dilation[axis]
        kernel = torch.arange(module.kernel_size[axis], device=places.device) * dilation
        if transposed:
            reach = at[axis][..., None] + cast(tuple[int, ...], module.padding)[axis] - kernel
            meets = (reach % stride == 0) & (reach >= 0) & (reach < side * stride)
            place = torch.where(meets, reach // stride, 0)
        else:
            place = at[axis][..., None] * stride + kernel
            meets = torch.ones_like(place, dtype=torch.bool)
        index = (index[..., None] * side + place[:, :, None, :]).flatten(2)
        inside = (inside[..., None] & meets[:, :, None, :]).flatten(2)
    images, channels = inputs.shape[:2]
    spread = index.reshape(images, 1, -1).expand(-1, channels, -1)
    found = inputs.flatten(2).gather(2, spread).reshape(images, channels, *index.shape[1:])
    return (found * inside[:, None]).transpose(1, 2).flatten(0, 1)


def _sides(output: Tensor, module: nn.Module) -> Sequence[int]:
    return output.shape[2:] if isinstance(module, _ConvNd) else output.shape[1:-1]


def _as_tokens(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1, values.shape[-1])
