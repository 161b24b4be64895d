"""Batch norms multiplied into the weights before them; the norms stay in their places and change nothing any more.

    W' = s W        b' = beta + s (b - mean)          s = gamma / sqrt(var + eps)
    norm': gamma 1, beta 0, mean 0, var 1 - eps

The function is the same, and the names of all tensors are: only the layers gain biases. Magnitudes are then those of
what a layer does to its outputs, and fitting a layer moves its bias too.

Source: MSBench (fuse_bn); that the norms stay is our own design.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from secateur.errors import PosttrainingError
from secateur.sparsity import as_stored, filters_first, has_masks, layers_of, unwrapped
from secateur.sparsity.layers import weighted_modules
from secateur.sparsity.norms import following_norms, norm_modules, norm_scale


@torch.no_grad()
def fold_norms_(model: nn.Module, input_size: tuple[int, ...] | None = None) -> dict[str, str]:
    """Fold every batch norm that alone gets a layer's output, in place; layers that share a weight keep theirs.

    input_size    (channels, height, width) of one image, by default the one that the network is known to take
    returns       layer -> the norm that was folded into it
    raises        PosttrainingError  the network has masks: scores of weights would change behind them
    """
    network = unwrapped(model)
    if has_masks(network):
        raise PosttrainingError("the network has masks; fold batch norms before weights are removed.")
    modules, norms = weighted_modules(network), norm_modules(network)
    behind, folded = following_norms(network, input_size), dict[str, str]()
    for layer in layers_of(network):
        module = modules[layer.name]
        if layer.name not in behind or layer.shared or parametrize.is_parametrized(module):
            continue
        norm = norms[behind[layer.name]]
        scale, weight = norm_scale(norm).scale, cast(Tensor, module.weight)
        mean = cast(Tensor, norm.running_mean).double()
        beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.double()  # pyright: ignore[reportUnnecessaryComparison]
        bias = cast(nn.Parameter | None, module.bias)
        before = torch.zeros_like(mean) if bias is None else bias.double()
        filters = filters_first(weight, layer.kind, layer.groups).double()
        scaled = filters * scale.reshape(-1, *[1] * (filters.dim() - 1))
        weight.copy_(as_stored(scaled, layer.kind, layer.groups))
        module.bias = nn.Parameter((beta + scale * (before - mean)).to(weight), requires_grad=weight.requires_grad)
        _make_neutral_(norm)
        folded[layer.name] = behind[layer.name]
    return folded


def _make_neutral_(norm: nn.Module) -> None:
    values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0 - cast(float, norm.eps)}
    for name, value in values.items():
        tensor = cast(Tensor | None, getattr(norm, name))
        if tensor is not None:
            tensor.fill_(value)
