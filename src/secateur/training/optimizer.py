"""The optimiser of a training stage.

    rate of a tensor = rate * max(.001, root mean square of what is not zero in it)      where rates are relative

Weight decay acts on weight matrices and convolution kernels only: biases and the scales and shifts of
normalisation layers, which are the trainable tensors of one dimension or none, are left out of it (He et al.
2019, section 3.1). Masked weights get no gradient, and momentum and decay move only their hidden copies, so
they stay zero in the network whatever the optimiser does.

A step of Adam is as long as the rate whatever the weights are, and one rate for all tensors is too much for those of a
MobileNet (.02) and too little for a norm's (.5): relative rates are those of Adafactor (Shazeer & Stern 2018)."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from secateur.errors import TrainingError
from secateur.recipe import Training

# Below this a tensor's size says nothing about how far it may move.
LEAST_SIZE = 1e-3
# Of a group of parameters: its rate as a share of the rate that is set.
SHARE = "share"


def build_optimizer(model: nn.Module, config: Training, *, relative: bool = False) -> torch.optim.Optimizer:
    """SGD or AdamW over the trainable parameters; its learning rate is set at every step by the loop.

    relative  rates are relative to the size that every tensor has now
    raises    TrainingError  when the model has nothing to train
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise TrainingError(f"{type(model).__name__} has no trainable parameter.")
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if relative:
        groups = [
            {"params": [p], "weight_decay": group["weight_decay"], SHARE: size_of(p)}
            for group in groups
            for p in group["params"]
        ]
    groups = [group for group in groups if group["params"]]
    # fused: one pass over all parameters; per-tensor steps cost up to five times as much on small networks.
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    return torch.optim.SGD(
        groups,
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        fused=True,
    )


@contextlib.contextmanager
def frozen_biases(model: nn.Module, on: bool) -> Iterator[None]:
    """Inside, biases and the shifts of norms are not trainable, if `on`; afterwards they are what they were."""
    # `bias.original` is what stands behind a parametrized one.
    names = ("bias", "bias.original")
    frozen = [p for name, p in model.named_parameters() if on and p.requires_grad and name.endswith(names)]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def set_learning_rate_(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use `rate` in the next step, for every parameter: as it is, or relative to its size."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(SHARE, 1.0)


def rate_of(optimizer: torch.optim.Optimizer) -> float:
    """The rate that was set last, before it became a share of any tensor's size."""
    group = optimizer.param_groups[0]
    return group["lr"] / group.get(SHARE, 1.0)


def size_of(parameter: Tensor) -> float:
    """Root mean square of the values that are not zero, at least .001."""
    kept = parameter.detach()[parameter.detach() != 0].double()
    return max(LEAST_SIZE, float(kept.square().mean().sqrt())) if len(kept) else LEAST_SIZE


def clip_gradients_(model: nn.Module, limit: float | None) -> None:
    """Scale all gradients so that their common Euclidean norm is at most `limit`; None leaves them."""
    if limit is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), limit)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's memory, named `parameter number.what`, such as `3.momentum_buffer`."""
    return {
        f"{number}.{key}": value
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors_(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave. raises TrainingError when it belongs to other parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        if not number.isdigit() or int(number) >= len(parameters):
            raise TrainingError(f"there is no parameter for the optimiser's tensor '{name}'.")
        parameter = parameters[int(number)]
        if value.ndim and value.shape != parameter.shape:
            raise TrainingError(
                f"the optimiser's tensor '{name}' has shape {tuple(value.shape)}, "
                f"its parameter {tuple(parameter.shape)}."
            )
        # The memory layout must be the parameter's: the fused steps walk both as flat arrays.
        own = torch.empty_like(parameter, dtype=value.dtype).copy_(value) if value.ndim else value
        state.setdefault(int(number), {})[key] = own
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
