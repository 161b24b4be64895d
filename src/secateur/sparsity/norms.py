"""The batch norm that follows a layer, found by running the network once: it gets what the layer gave, unchanged.

y = gamma (x - mean) / sqrt(var + eps) + beta,   so a filter's weights act with the scale gamma / sqrt(var + eps)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from secateur.sparsity.census import evaluating, input_shape_of, run_once
from secateur.sparsity.layers import layers_of, unwrapped, weighted_modules


@dataclass(frozen=True)
class NormScale:
    """One number for each output channel of the layer.

    gamma    the norm's weight
    scale    gamma / sqrt(var + eps)
    """

    gamma: Tensor
    scale: Tensor


def following_norms(model: nn.Module, input_size: tuple[int, ...] | None = None) -> dict[str, str]:
    """Layer name -> name of the batch norm that gets the layer's output and nothing else does to it before.

    A norm that is used several times, or by several layers, is left out.

    input_size    (channels, height, width) of one image, by default the one that the network is known to take
    raises    ModelError  the network does not run on one image
    """
    network = unwrapped(model)
    modules = weighted_modules(network)
    names = {name: layer.name for layer in layers_of(network) for name in (layer.name, *layer.shared)}
    given: dict[int, tuple[str, Tensor, int]] = {}
    found: dict[str, list[str | None]] = {}

    def leaving(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                # The tensor is kept, so that its id stays its own.
                given[id(output)] = (name, output, output._version)

        return hook

    def entering(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[object, ...]) -> None:
            tensor = inputs[0] if inputs else None
            layer, kept, version = given.get(id(tensor), (None, None, 0))
            untouched = kept is not None and kept._version == version
            found.setdefault(name, []).append(layer if untouched else None)

        return hook

    norms = norm_modules(network)
    handles = [module.register_forward_hook(leaving(names[name])) for name, module in modules.items()]
    handles += [module.register_forward_pre_hook(entering(name)) for name, module in norms.items()]
    try:
        with torch.no_grad(), evaluating(network):
            run_once(network, input_shape_of(network, input_size))
    finally:
        for handle in handles:
            handle.remove()
    alone = {norm: layers[0] for norm, layers in found.items() if len(layers) == 1 and layers[0] is not None}
    times = list(alone.values())
    return {layer: norm for norm, layer in alone.items() if times.count(layer) == 1}


def norm_modules(model: nn.Module) -> dict[str, _BatchNorm]:
    """Name -> batch norm with running statistics."""
    return {
        name: module
        for name, module in cast(Iterator[tuple[str, nn.Module]], unwrapped(model).named_modules())
        if isinstance(module, _BatchNorm) and module.running_var is not None
    }


@torch.no_grad()
def norm_scale(norm: _BatchNorm) -> NormScale:
    """What the norm multiplies every channel with, at this moment."""
    variance = cast(Tensor, norm.running_var).double()
    gamma = torch.ones_like(variance) if norm.weight is None else norm.weight.double()  # pyright: ignore[reportUnnecessaryComparison]
    return NormScale(gamma, gamma / (variance + norm.eps).sqrt())
