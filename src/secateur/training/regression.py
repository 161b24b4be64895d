"""Layer-wise regression: every pruned layer is fitted to what the dense layer gives, before the network is fine-tuned.

    minimise  mean |f(x; m w) - f(x; w_dense)|^2        x: the dense layer's own input;  only the kept w move, by Adam

Each layer by itself, all of them on the same batches. The rate is a share of the root mean square of the layer's kept
weights, so that one number suits all layers (our own design), and falls linearly to zero. A layer whose error on the
first batch has not become smaller keeps the weights it had.

Source: PocketFlow, weight sparsification with regression (Adam, a few iterations).
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import TrainingError
from secateur.sparsity import masks, stored_weight, unwrapped
from secateur.sparsity.layers import weighted_modules
from secateur.training import distributed
from secateur.training.placement import placed


@dataclass(frozen=True)
class Fitted:
    """Mean squared error of one layer's output on the first batch, before and after."""

    layer: str
    before: float
    after: float


def regress_(
    model: nn.Module,
    dense: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    layers: Iterable[str] | None = None,
    iterations: int = 20,
    learning_rate: float = 3e-2,
) -> tuple[Fitted, ...]:
    """Fit the kept weights of masked layers of `model` to the outputs of the same layers of `dense`.

    batches         preprocessed images (and labels, which nobody looks at), gone through again as often as needed
    layers          names; by default every layer that has a mask
    learning_rate   relative to the root mean square of a layer's kept weights
    returns         the errors, one row for each layer
    raises          TrainingError  no images, or a dense network without one of the layers
    """
    modules, theirs = weighted_modules(unwrapped(model)), weighted_modules(unwrapped(dense))
    names = _unshared(modules, masks(model) if layers is None else layers)
    missing = [name for name in names if name not in theirs]
    if missing:
        raise TrainingError(f"the dense network has no layer '{missing[0]}' that {missing[0]} could be fitted to.")
    teacher = copy.deepcopy(dense).eval()
    device = distributed.device()
    source = _endless(batches)
    first = next(source)
    with placed((model, teacher), device, first.shape[1:]):
        theirs = weighted_modules(unwrapped(teacher))
        return _fit(modules, theirs, names, teacher, first.to(device), source, iterations, learning_rate)


def _fit(
    modules: dict[str, nn.Module],
    theirs: dict[str, nn.Module],
    names: list[str],
    teacher: nn.Module,
    first: Tensor,
    source: Iterator[Tensor],
    iterations: int,
    learning_rate: float,
) -> tuple[Fitted, ...]:
    weights = {name: cast(nn.Parameter, stored_weight(modules[name])) for name in names}
    device = next(teacher.parameters()).device
    images = first
    start = {name: weight.detach().clone() for name, weight in weights.items()}
    rates = {name: learning_rate * _size(cast(Tensor, modules[name].weight)) for name in names}
    groups: list[dict[str, Any]] = [{"params": [weights[name]], "lr": rates[name]} for name in names]
    optimizer = torch.optim.Adam(groups, foreach=False)
    before = _errors(modules, theirs, names, teacher, first)
    for iteration in range(iterations):
        for group, name in zip(optimizer.param_groups, names, strict=True):
            group["lr"] = rates[name] * (1.0 - iteration / iterations)
        optimizer.zero_grad(set_to_none=True)
        _errors(modules, theirs, names, teacher, images, learn=True)
        optimizer.step()
        images = next(source).to(device)
    optimizer.zero_grad(set_to_none=True)
    after = _errors(modules, theirs, names, teacher, first)
    for name in names:
        if not after[name] < before[name]:
            weights[name].data.copy_(start[name])
            after[name] = before[name]
    return tuple(Fitted(name, before[name], after[name]) for name in names)


def _errors(
    modules: dict[str, nn.Module],
    theirs: dict[str, nn.Module],
    names: list[str],
    teacher: nn.Module,
    images: Tensor,
    learn: bool = False,
) -> dict[str, float]:
    """Mean squared error of every layer on one batch; with `learn`, gradients of the kept weights too."""
    errors: dict[str, float] = {}

    def compare(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            with torch.set_grad_enabled(learn):
                error = F.mse_loss(modules[name](inputs[0].detach()), output.detach())
                if learn:
                    weight = stored_weight(modules[name])
                    gradient = torch.autograd.grad(error, weight)[0]
                    gradient = distributed.sum_over_group(gradient) / distributed.world_size()
                    weight.grad = gradient if weight.grad is None else weight.grad + gradient
            share = distributed.sum_over_group(error.detach().double()) / distributed.world_size()
            errors[name] = errors.get(name, 0.0) + float(share)

        return hook

    handles = [theirs[name].register_forward_hook(compare(name)) for name in names]
    try:
        with torch.no_grad():
            teacher(images)
    finally:
        for handle in handles:
            handle.remove()
    return {name: errors.get(name, 0.0) for name in names}


def _unshared(modules: dict[str, nn.Module], masked: Iterable[str]) -> list[str]:
    """Names of the masked layers, one for each weight."""
    first: dict[int, str] = {}
    for name in masked:
        first.setdefault(id(stored_weight(modules[name])), name)
    return list(first.values())


def _size(weight: Tensor) -> float:
    """Root mean square of the weights that are not zero."""
    kept = weight.detach()[weight.detach() != 0]
    return float(kept.square().mean().sqrt()) if kept.numel() else 0.0


def _endless(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    while True:
        seen = 0
        for images, _ in batches:
            seen += len(images)
            yield images
        if not seen:
            raise TrainingError("layer-wise regression needs training images, and there are none.")
