"""The tensors of a torch network by the names that groups and plans use, and cutting them.

A masked weight is `layer.weight` as any other: the dense tensor behind the mask and the mask itself are cut alike.
Tensors change their size in place, so that an optimiser, a second module or a parametrization that holds them
holds them still.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from secateur.channels.groups import IntArray
from secateur.channels.trace import only_masks
from secateur.errors import SparsityError
from secateur.registry import unknown
from secateur.sparsity import Mask, stored_weight, unwrapped


def tensors_of(model: nn.Module) -> dict[str, list[Tensor]]:
    """Name -> the tensors of that shape; a masked weight has two, the weight and its mask."""
    found: dict[str, list[Tensor]] = {}
    for prefix, module in unwrapped(model).named_modules():
        if isinstance(module, Mask | parametrize.ParametrizationList):
            continue
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, tensor in own:
            found[_joined(prefix, name)] = [tensor]
        if parametrize.is_parametrized(module, "weight") and only_masks(module):
            chain = cast(nn.ModuleDict, module.parametrizations)["weight"]
            steps = [step.mask for step in chain.children() if isinstance(step, Mask)]
            found[_joined(prefix, "weight")] = [stored_weight(module), *steps]
    return found


def named(tensors: dict[str, list[Tensor]], name: str) -> list[Tensor]:
    """The tensors of a name. raises SparsityError when the network has none."""
    if name not in tensors:
        raise SparsityError(unknown("tensor of this network", name, tensors))
    return tensors[name]


def taken(tensor: Tensor, axis: int, index: IntArray, groups: int = 1) -> Tensor:
    """Entries `index` of an axis, in that order.

    groups    > 1: the input axis of a grouped convolution; the index counts all input channels, as many of them in
              each group, one group after the other
    """
    picked = torch.from_numpy(np.ascontiguousarray(index)).to(tensor.device)
    if groups == 1:
        return tensor.index_select(axis, picked)
    each = tensor.shape[axis]
    rows = tensor.chunk(groups)
    columns = picked.reshape(groups, -1) - each * torch.arange(groups, device=tensor.device)[:, None]
    return torch.cat([row.index_select(axis, column) for row, column in zip(rows, columns, strict=True)])


def cut_(tensors: Sequence[Tensor], axis: int, index: IntArray, groups: int, optimizer: Optimizer | None) -> None:
    """Replace the entries of an axis by those that `index` names, in tensors, gradients and optimiser state."""
    with torch.no_grad():
        for tensor in tensors:
            before = tensor.shape
            gradient = tensor.grad
            tensor.grad = None
            tensor.data = taken(tensor.data, axis, index, groups)
            if gradient is not None:
                tensor.grad = taken(gradient, axis, index, groups)
            for key, value in (optimizer.state.get(tensor, {}) if optimizer is not None else {}).items():
                # Momentum and moments have the shape of their parameter; the step count has not.
                if isinstance(value, Tensor) and value.shape == before and value.ndim:
                    optimizer.state[tensor][key] = taken(value, axis, index, groups)  # type: ignore[union-attr]


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
