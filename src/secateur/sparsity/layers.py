"""The layers of a network whose weights count: convolutions and linear layers, by name."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

from secateur.graph.layer_count import Kind

WEIGHTED = (_ConvNd, nn.Linear)


@dataclass(frozen=True)
class Layer:
    """One weight tensor. Layers that share a tensor are one layer, under the name of the first.

    shape     as stored: (C_out, C_in/groups, kernel...), (C_out, C_in); transposed: (C_in, C_out/groups,
              kernel...)
    shared    names of the other layers that use the same tensor
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    groups: int = 1
    shared: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        return math.prod(self.shape)

    @property
    def depthwise(self) -> bool:
        """Whether every input channel is a group of its own, also of a transposed convolution."""
        return self.kind == "depthwise" or (self.kind == "conv_transpose" and 1 < self.groups == self.shape[0])

    @property
    def filter_shape(self) -> tuple[int, ...]:
        """(C_out, C_in/groups, kernel...) or (C_out, C_in), also of a transposed convolution."""
        return filter_shape(self.shape, self.kind, self.groups)


def filter_shape(shape: tuple[int, ...], kind: Kind, groups: int) -> tuple[int, ...]:
    """The shape filter first of a weight that is stored in `shape`."""
    if kind != "conv_transpose":
        return shape
    return (groups * shape[1], shape[0] // groups, *shape[2:])


def filters_first(tensor: Tensor, kind: Kind, groups: int) -> Tensor:
    """A weight, or a mask of one, as patterns and criteria see it: (C_out, C_in/groups, kernel...).

    torch stores a transposed convolution as (C_in, C_out/groups, kernel...); everything else is filter first.
    """
    if kind != "conv_transpose":
        return tensor
    return _exchanged(tensor, groups)


def as_stored(tensor: Tensor, kind: Kind, groups: int) -> Tensor:
    """The way back from `filters_first`."""
    return filters_first(tensor, kind, groups)  # it is its own inverse


def _exchanged(tensor: Tensor, groups: int) -> Tensor:
    first, second, *kernel = tensor.shape
    grouped = tensor.reshape(groups, first // groups, second, *kernel)
    return grouped.transpose(1, 2).reshape(groups * second, first // groups, *kernel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside (Distributed)DataParallel, so that names have no leading `module.`."""
    while isinstance(model, DistributedDataParallel | nn.DataParallel):
        model = cast(nn.Module, model.module)
    return model


def weighted_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> module of every convolution and linear layer, in order of definition."""
    modules = cast(Iterator[tuple[str, nn.Module]], unwrapped(model).named_modules())
    return {name: module for name, module in modules if isinstance(module, WEIGHTED)}


def stored_weight(module: nn.Module) -> Tensor:
    """The dense tensor that an optimiser updates: behind the mask where there is one.

    Behind a parametrization of several tensors (weight norm) it is the first of them.
    """
    if not parametrize.is_parametrized(module, "weight"):
        return cast(Tensor, module.weight)
    chain = cast(nn.ModuleDict, module.parametrizations)["weight"]
    return next(chain.parameters(recurse=False))


def layers_of(model: nn.Module) -> tuple[Layer, ...]:
    """All weighted layers in order of definition, each tensor once."""
    names: dict[int, list[str]] = {}
    modules = weighted_modules(model)
    for name, module in modules.items():
        names.setdefault(id(stored_weight(module)), []).append(name)
    return tuple(_layer(modules[first], first, tuple(others)) for first, *others in names.values())


def _layer(module: nn.Module, name: str, shared: tuple[str, ...]) -> Layer:
    shape = tuple(cast(Tensor, module.weight).shape)
    if not isinstance(module, _ConvNd):
        return Layer(name, "linear", shape, 1, shared)
    if isinstance(module, _ConvTransposeNd):
        return Layer(name, "conv_transpose", shape, module.groups, shared)
    depthwise = module.groups > 1 and module.groups == module.in_channels
    return Layer(name, "depthwise" if depthwise else "conv", shape, module.groups, shared)
