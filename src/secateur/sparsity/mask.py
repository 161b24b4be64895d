"""Masks as parametrizations: the layer computes with its kept weights, the optimiser sees the dense ones.

    forward     w.masked_fill(not mask, 0)        so a removed weight is +0, whatever an optimiser step did
                times a scale, where who chooses the mask makes up for what it removes (Bernoulli)
    backward    removed weights get no gradient; momentum and weight decay move only the hidden dense copy
                straight through: every weight gets the gradient of the masked one (Distiller's double copies)

The mask is a boolean buffer beside the parameter: it is in the state dict, moves with the module, and is the
same on every rank of DistributedDataParallel. Layers that share a weight share one mask. Folding writes the
zeros into the weight and leaves no trace of the mask.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from secateur.errors import SparsityError
from secateur.registry import unknown
from secateur.sparsity.layers import stored_weight, weighted_modules


class Mask(nn.Module):
    """The parametrization of one weight: a boolean mask, True = kept.

    scale               one positive number that multiplies the kept weights; None, and not in the state, where it is 1
    straight_through    removed weights get the gradient too; a rule of one training, not part of the state
    """

    mask: Tensor
    scale: Tensor | None
    straight_through: bool = False

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool, requires_grad=False))
        self.register_buffer("scale", None)

    def forward(self, weight: Tensor) -> Tensor:
        if self.straight_through:
            apply = cast(Callable[[Tensor, Tensor], Tensor], _StraightThrough.apply)  # type: ignore[reportUnknownMemberType]
            masked = apply(weight, self.mask)
        else:
            masked = weight.masked_fill(~self.mask, 0.0)
        return masked if self.scale is None else masked * self.scale


class _StraightThrough(torch.autograd.Function):
    """Masked forward, the gradient as if there were no mask."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask: Tensor) -> Tensor:
        return weight.masked_fill(~mask, 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None


def attach_masks_(model: nn.Module, names: Iterable[str]) -> None:
    """Give the named layers a mask that keeps everything; a layer that has one keeps it.

    raises    SparsityError  a name that is no convolution or linear layer, or one whose weight is already
                             computed from something else (weight norm)
    """
    modules = weighted_modules(model)
    users: dict[int, list[nn.Module]] = {}
    for module in modules.values():
        users.setdefault(id(stored_weight(module)), []).append(module)
    for name in names:
        if name not in modules:
            raise SparsityError(unknown("layer", name, modules))
        if _mask_of(modules[name]) is not None:
            continue
        if parametrize.is_parametrized(modules[name], "weight"):
            raise SparsityError(
                f"{name}: the weight is parametrized already (weight norm or the like); make it a plain weight "
                f"with torch.nn.utils.parametrize.remove_parametrizations first."
            )
        weight = stored_weight(modules[name])
        mask = Mask(weight)
        for module in users[id(weight)]:
            # unsafe: the shape stays, and the check would run the forward pass of every mask once more.
            parametrize.register_parametrization(module, "weight", mask, unsafe=True)


def set_mask_(module: nn.Module, mask: Tensor) -> None:
    """Replace the mask of one layer, in place.

    mask      boolean, the shape of the weight, True = kept
    raises    SparsityError  the layer has no mask, or the new one has another shape or type
    """
    found = _needed(module)
    if mask.shape != found.mask.shape or mask.dtype != torch.bool:
        raise SparsityError(
            f"the mask of a weight of shape {tuple(found.mask.shape)} must be boolean and of that shape, "
            f"not {mask.dtype} of shape {tuple(mask.shape)}."
        )
    found.mask.copy_(mask)


def set_scale_(module: nn.Module, scale: float) -> None:
    """Let what the mask of one layer keeps be multiplied by a positive number. raises SparsityError without a mask."""
    found = _needed(module)
    if found.scale is None:
        found.scale = torch.ones_like(stored_weight(module).detach().flatten()[0])
    found.scale.fill_(scale)


@torch.no_grad()
def absorb_scale_(module: nn.Module) -> None:
    """Make the number that multiplies what is kept part of the weights, where there is one; the function stays."""
    found = _needed(module)
    if found.scale is not None:
        stored_weight(module).mul_(found.scale)
        found.scale.fill_(1.0)


def keep_all_(module: nn.Module) -> None:
    """Let the mask of one layer keep every weight as it is. raises SparsityError without a mask."""
    found = _needed(module)
    found.mask.fill_(True)
    if found.scale is not None:
        found.scale.fill_(1.0)


def straight_through_(module: nn.Module, on: bool) -> None:
    """Let the removed weights of one layer get gradients, or no longer. raises SparsityError without a mask."""
    _needed(module).straight_through = on


def masks(model: nn.Module) -> dict[str, Tensor]:
    """Layer name -> mask, True = kept, for every layer that has one."""
    found = {name: _mask_of(module) for name, module in weighted_modules(model).items()}
    return {name: mask.mask for name, mask in found.items() if mask is not None}


def has_masks(model: nn.Module) -> bool:
    """Whether any layer has a mask."""
    return bool(masks(model))


def fold_masks_(model: nn.Module) -> None:
    """Write the zeros into the weights and take the masks away; the function stays the same.

    Another parametrization of the same module, such as weight norm, is folded with it.
    """
    for module in weighted_modules(model).values():
        if _mask_of(module) is not None:
            fold_parametrizations_(module)


@torch.no_grad()
def fold_parametrizations_(module: nn.Module) -> None:
    """Make the parametrized tensors of one module plain parameters; those that modules share stay shared."""
    # torch's remove_parametrizations edits the module's class, which a deep copy shares with its original: folding
    # the one would take the weight of the other away. Here each module gets its plain class back by itself.
    chains = cast(nn.ModuleDict, module.parametrizations)
    values = {name: cast(Tensor, getattr(module, name)).detach().clone() for name in chains}
    originals = {name: getattr(chain, "original", None) for name, chain in chains.items()}
    module.__class__ = type(module).__bases__[0]
    del module.parametrizations
    for name, value in values.items():
        parameter = originals[name]
        if parameter is None:
            parameter = nn.Parameter(value)
        parameter.data = value
        module.register_parameter(name, parameter)


def mask_of(module: nn.Module) -> Tensor:
    """The mask of one layer, True = kept. raises SparsityError when it has none."""
    return _needed(module).mask


def _needed(module: nn.Module) -> Mask:
    found = _mask_of(module)
    if found is None:
        raise SparsityError(f"this {type(module).__name__} has no mask; attach_masks_ gives it one.")
    return found


def _mask_of(module: nn.Module) -> Mask | None:
    if not parametrize.is_parametrized(module, "weight"):
        return None
    chain = cast(nn.ModuleDict, module.parametrizations)["weight"]
    return next((step for step in chain.children() if isinstance(step, Mask)), None)
