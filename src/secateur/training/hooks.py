"""Hooks: what a way of training does beside the plain loop, and when the loop asks for it.

    begin                      once, before the checkpoint is read
    before_epoch               before the first batch of an epoch; not again when a run resumes within one
      before_step              learning rate and random numbers of the step are set
        forward pass, loss + extra_loss, backward pass
      after_backward           gradients are whole (and averaged over processes), not yet clipped
        clipping, optimiser step
      after_step               the weights have moved; a checkpoint may follow
    end                        after the last step, before the last evaluation: makes the result final
    before_evaluation          the model is about to be evaluated, at the end of every epoch
    after_epoch                the epoch is evaluated and summed up; a checkpoint follows
    close                      whatever happened: leaves nothing of the hook on the model

Hooks are called in the order in which they are given. All that a hook remembers from one step to the next is in
`state`, so that a run which is killed goes on bit for bit; it never changes which tensors a model has.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.recipe import Training
from secateur.training.history import Row


@dataclass(frozen=True)
class Scene:
    """What a hook gets to work with.

    model              the network that is trained, without any wrapper; already on its device
    optimizer          its optimiser; the learning rate of the step stands in its groups
    teacher            whom it learns from, if anybody
    steps_per_epoch    batches of an epoch
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    teacher: nn.Module | None
    config: Training
    steps_per_epoch: int
    seed: int

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.config.epochs * self.steps_per_epoch


class Hook:
    """A part of a training; each method does nothing unless it is overridden.

    epoch, step    counted from 0 over the whole run
    """

    def begin(self, scene: Scene) -> None:
        """The training is about to start, or to go on."""

    def before_epoch(self, epoch: int) -> None:
        """An epoch begins."""

    def before_step(self, step: int) -> None:
        """A step begins."""

    def extra_loss(self, model: nn.Module, step: int) -> Tensor | None:
        """A scalar to add to the loss of the batch that `model` has just seen."""
        return None

    def after_backward(self, step: int) -> None:
        """The gradients of a step are there."""

    def after_step(self, step: int) -> None:
        """The weights have moved."""

    def end(self) -> None:
        """The last step has been taken."""

    def before_evaluation(self, epoch: int) -> None:
        """The model is about to be evaluated and summed up."""

    def after_epoch(self, row: Row) -> None:
        """An epoch has been evaluated."""

    def settled(self, row: Row) -> bool:
        """Whether what was evaluated has the final sparsity, as far as this hook decides it."""
        return True

    def close(self) -> None:
        """The training is over or has been broken off; also called when `begin` never was."""

    def state(self) -> dict[str, Tensor]:
        """What the rest of the run depends on, apart from model and optimiser."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave, on whatever device it comes."""

    def description(self) -> dict[str, Any]:
        """Plain JSON: what makes two runs different. A checkpoint of another description is refused."""
        return {}


def described(hooks: tuple[Hook, ...]) -> dict[str, Any]:
    """The descriptions of all hooks, in order, each under its number and class."""
    return {f"{number} {type(hook).__name__}": hook.description() for number, hook in enumerate(hooks)}


def states(hooks: tuple[Hook, ...]) -> dict[str, Tensor]:
    """The states of all hooks in one dict: `number.name`."""
    return {f"{number}.{name}": value for number, hook in enumerate(hooks) for name, value in hook.state().items()}


def restore_states_(hooks: tuple[Hook, ...], stored: Mapping[str, Tensor]) -> None:
    """Give every hook its part of what `states` gave."""
    for number, hook in enumerate(hooks):
        start = f"{number}."
        hook.restore({name.removeprefix(start): value for name, value in stored.items() if name.startswith(start)})
