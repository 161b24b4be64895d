"""Fitting one unit: its weights move until it gives what the dense unit gives.

    minimise   mean over images and positions of  sum over channels (unit(x) - dense unit)^2       by Adam

One cached batch, drawn at random, per step; norms in evaluation mode. A unit that is not better on all cached images
than it was before keeps what it had.

Source: MSBench.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Generator, Tensor, nn

from secateur.posttraining.descent import FitOptions, Stop, descend_
from secateur.posttraining.units import Unit, Units
from secateur.progress import Tracker
from secateur.sparsity import mask_of, masks, stored_weight
from secateur.sparsity.layers import weighted_modules


@dataclass(frozen=True)
class FittedUnit:
    """What became of one unit.

    before, after    the loss over all cached images; None where the unit was not reached
    stop             why it ended
    """

    unit: str
    before: float | None
    after: float | None
    steps: int
    seconds: float
    stop: Stop


def fit_unit_(
    units: Units,
    unit: Unit,
    network: nn.Module,
    sources: Sequence[Tensor],
    targets: Sequence[Tensor],
    options: FitOptions,
    generator: Generator,
    *,
    rechoose: Callable[[], None] | None = None,
    seconds: float | None = None,
    tracker: Tracker | None = None,
) -> FittedUnit:
    """Fit the weights of one unit of `network`, which is in evaluation mode.

    sources, targets    what the unit reads, and what the dense unit gives, batch by batch
    rechoose            called after every step: chooses the masks of the unit again
    seconds             a limit; the unit ends there with the best of what it was and what it is
    """
    tensors = unit_tensors(network, unit)
    device = next(network.parameters()).device

    def loss(batch: int) -> Tensor:
        target = targets[batch].to(device)
        output = units.run(unit, network, sources[batch].to(device))
        return distance(output, target, channel_axis(network, unit, target))

    @torch.no_grad()
    def error() -> float:
        total = sum(float(loss(batch).double()) * len(source) for batch, source in enumerate(sources))
        return total / sum(map(len, sources))

    def after_step(value: float) -> None:
        if rechoose is not None:
            rechoose()
        if tracker is not None:
            tracker.advance(unit=unit.name, loss=value)

    done = descend_(tensors, error, loss, len(sources), options, generator, seconds=seconds, after_step=after_step)
    return FittedUnit(unit.name, done.before, done.after, done.steps, done.seconds, done.stop)


def distance(output: Tensor, target: Tensor, axis: int) -> Tensor:
    """Mean over everything but the channels of the sum over channels of squared differences."""
    return (output - target).square().sum(axis).mean()


def channel_axis(network: nn.Module, unit: Unit, target: Tensor) -> int:
    """Where the channels of a unit's result are: last behind a linear layer and in flat values, else second."""
    flat = isinstance(network.get_submodule(unit.layers[-1]), nn.Linear) if unit.layers else False
    return -1 if flat or target.ndim < 3 else 1


def unit_tensors(network: nn.Module, unit: Unit) -> dict[str, Tensor]:
    """Everything that fitting may change: stored weights, biases, masks, by name."""
    masked, modules = masks(network), weighted_modules(network)
    found: dict[str, Tensor] = {}
    for name in unit.layers:
        found[f"{name}.weight"] = stored_weight(modules[name])
        if modules[name].bias is not None:
            found[f"{name}.bias"] = cast(Tensor, modules[name].bias)
        if name in masked:
            found[f"{name}.mask"] = mask_of(modules[name])
    return found
