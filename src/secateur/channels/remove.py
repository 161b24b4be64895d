"""Removing channels: smaller tensors, the same function as the masked network.

Parameters, buffers, masks, gradients and optimiser state are cut in place, so that whatever holds them holds them
still, and parameters that modules share stay shared. What modules say about themselves (`in_channels`, `groups`,
`num_features`) follows from the new shapes. Remove before the network is wrapped for several processes.
"""

import math
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd  # pyright: ignore[reportPrivateUsage]
from torch.optim import Optimizer

from secateur.channels.plan import RemovalPlan
from secateur.channels.tensors import cut_, named, tensors_of
from secateur.errors import SparsityError
from secateur.sparsity import stored_weight, unwrapped


def remove_channels_(model: nn.Module, plan: RemovalPlan, optimizer: Optimizer | None = None) -> None:
    """Take the channels of `plan` out of `model`, in place.

    optimizer    one that holds the parameters of `model`: its momentum and moments are cut with them, and a bias that a
                 layer gains joins the weight of that layer
    raises       SparsityError  the plan was made for a network of other tensors; nothing is changed then
    """
    tensors = tensors_of(model)
    check_fits(tensors, plan)
    shift_(model, plan, cut=True, optimizer=optimizer)
    for cut in plan.cuts:
        kept = np.array(cut.kept, dtype=np.int64)
        cut_(named(tensors, cut.tensor), cut.axis, kept, cut.groups, optimizer)
    depthwise = {id(tensors[cut.tensor][0]) for cut in plan.cuts if cut.role == "depthwise"}
    cut_tensors = {id(tensor) for cut in plan.cuts for tensor in tensors[cut.tensor]}
    for prefix, module in unwrapped(model).named_modules():
        own = [tensors.get(f"{prefix}.{name}" if prefix else name, [])[:1] for name in ("weight", "running_mean")]
        found = [tensor for held in own for tensor in held]
        if any(id(tensor) in cut_tensors for tensor in found):
            _describe_(module, found[0], id(found[0]) in depthwise)


@torch.no_grad()
def shift_(model: nn.Module, plan: RemovalPlan, cut: bool, optimizer: Optimizer | None = None) -> None:
    """Add what the plan says to biases; a layer without one gains one, already cut on request. The plan must fit."""
    modules = dict(unwrapped(model).named_modules())
    made = {piece.tensor: list(piece.kept) for piece in plan.cuts if piece.axis == 0}
    for name, values in plan.bias.items():
        layer = name.removesuffix(".bias")
        module = cast(nn.Conv2d, modules[layer])
        added = torch.tensor(values, dtype=module.weight.dtype, device=module.weight.device)
        if module.bias is not None:
            module.bias += added
        else:
            kept = made.get(f"{layer}.weight") if cut else None
            weight = stored_weight(module)
            module.bias = nn.Parameter(added if kept is None else added[kept], requires_grad=weight.requires_grad)
            if optimizer is not None:
                _join_(optimizer, weight, name, module.bias)


def _join_(optimizer: Optimizer, weight: Tensor, name: str, bias: nn.Parameter) -> None:
    """Put a new bias beside the weight of its layer; where the optimiser does not train that, it need not train this.

    Not add_param_group: schedules of the learning rate know only the groups that there were.
    """
    for group in optimizer.param_groups:
        if any(held is weight for held in group["params"]):
            group["params"].append(bias)
            if "param_names" in group:
                group["param_names"].append(name)


def check_fits(tensors: dict[str, list[Tensor]], plan: RemovalPlan) -> None:
    """raises SparsityError when a plan is not one for these tensors"""
    for name, values in plan.bias.items():
        outputs = named(tensors, f"{name.removesuffix('.bias')}.weight")[0].shape[0]
        if not name.endswith(".bias") or outputs != len(values):
            raise SparsityError(f"{name}: the plan adds {len(values)} numbers to a bias of {outputs}.")
    after = {cut.tensor: list(named(tensors, cut.tensor)[0].shape) for cut in plan.cuts}
    for cut in plan.cuts:
        shape = after[cut.tensor]
        if cut.axis >= len(shape) or shape[cut.axis] * cut.groups != cut.length:
            raise SparsityError(
                f"{cut.tensor}: the plan was made for {cut.length} channels along axis {cut.axis}, "
                f"the network has a tensor of shape {'x'.join(map(str, named(tensors, cut.tensor)[0].shape))}."
            )
        if cut.groups > 1 and shape[0] % cut.groups:
            raise SparsityError(f"{cut.tensor}: {shape[0]} filters cannot stand in {cut.groups} groups.")
    for cut in plan.cuts:
        after[cut.tensor][cut.axis] = len(cut.kept) // cut.groups
    for name, shape in after.items():
        if tuple(shape) != tuple(plan.shapes[name]):
            raise SparsityError(
                f"{name}: cut as planned it would have the shape {'x'.join(map(str, shape))}, "
                f"the plan says {'x'.join(map(str, plan.shapes[name]))}."
            )


def _describe_(module: nn.Module, tensor: Tensor, depthwise: bool) -> None:
    """What a module says about its tensors, after they were cut."""
    length = tensor.shape[0]
    if isinstance(module, _ConvNd):
        if depthwise:
            each = module.out_channels // module.groups
            module.groups = module.in_channels = length // each if not isinstance(module, _ConvTransposeNd) else length
        first, second = length, tensor.shape[1] * module.groups
        transposed = isinstance(module, _ConvTransposeNd)
        module.in_channels, module.out_channels = (first, second) if transposed else (second, first)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = length, math.prod(tensor.shape[1:])
    elif isinstance(module, _NormBase):
        module.num_features = length
    elif isinstance(module, nn.PReLU):
        module.num_parameters = length
