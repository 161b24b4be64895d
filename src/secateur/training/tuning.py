"""How a sparse network is tuned on unlabelled images, and what came of it.

    rate(p)   = base p / w                                     p < w          p: the share of the budget that is spent
              = base (1 + cos(pi (p - w) / (1 - w))) / 2       p >= w         w: the share of the warm-up

A budget is a number of steps, a number of seconds, or both, whichever ends first; p is the larger of the two shares,
so that the rate has come down to zero when a time box closes, however fast the machine is.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from secateur.errors import TrainingError
from secateur.recipe import Distillation, Training
from secateur.registry import unknown

Masks = Literal["static", "scheduled", "learned"]
Norms = Literal["train", "frozen"]


@dataclass(frozen=True)
class Tuning:
    """Settings of `tune_`. The defaults did best in short runs: ResNet-20, 1,024 images of CIFAR-10, batches of 32.

    A minute of one core at 80 % of magnitude's zeros (70.3 with norms estimated again; 2,000 test images) gives 83.9
    with adamw at .002 and at .005, 82.8 with sgd at .01, 80.4 with sgd at .04, 82.2 at T 2. Frozen norms diverged.

    optimizer              adamw or sgd
    learning_rate          at its highest, per step of one batch
    momentum, nesterov     of sgd
    warmup                 share of the budget in which the rate rises
    weight_decay           on matrices and kernels; sgd wants about 3e-4
    temperature            T of the loss T^2 KL(teacher || student)
    clip_gradient_norm     the common Euclidean norm of all gradients is at most this; None leaves them
    features               glob of layers or blocks -> weight of the mean squared distance of their outputs
    norms                  train: statistics of the batch, running ones follow by `norm_momentum`
                           frozen: running statistics are used and stay; scales and shifts learn in both
    masks                  static: those that the network has
                           scheduled: chosen again by magnitude, at the plan's levels, `selections` times in the first
                           `settle` of the budget, while removed weights learn with the others
                           learned: a threshold for each layer, under one constraint for the network, until `settle`
    constraint             lambda of learned thresholds
    threshold_rate         learning rate of the thresholds relative to that of the weights
    evaluations            how often the held-out images are looked at, evenly over the budget
    checkpoint_seconds     at least this often a checkpoint is written, where there is a folder
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 0.002
    momentum: float = 0.9
    nesterov: bool = True
    warmup: float = 0.05
    weight_decay: float = 1e-2
    temperature: float = 4.0
    clip_gradient_norm: float | None = None
    features: Mapping[str, float] = field(default_factory=dict[str, float])
    norms: Norms = "train"
    norm_momentum: float = 0.05
    masks: Masks = "static"
    settle: float = 0.5
    selections: int = 10
    constraint: float = 1.0
    squared_constraint: bool = False
    threshold_rate: float = 1.0
    evaluations: int = 20
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.masks not in get_args(Masks):
            raise TrainingError(unknown("kind of masks", self.masks, get_args(Masks)))
        if self.norms not in get_args(Norms):
            raise TrainingError(unknown("treatment of norms", self.norms, get_args(Norms)))
        for name in ("learning_rate", "temperature", "norm_momentum", "checkpoint_seconds"):
            if not getattr(self, name) > 0.0:
                raise TrainingError(f"{name} of a tuning must be above 0, not {getattr(self, name):g}.")
        if self.optimizer not in ("adamw", "sgd"):
            raise TrainingError(unknown("optimizer", self.optimizer, ("adamw", "sgd")))
        for name in ("warmup", "settle"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise TrainingError(
                    f"{name} of a tuning is a share of the budget below 1, not {getattr(self, name):g}."
                )
        if self.evaluations < 1 or self.selections < 1:
            raise TrainingError("a tuning needs at least one evaluation and one selection.")

    def rate_at(self, share: float) -> float:
        """The learning rate when `share` of the budget is spent."""
        if share < self.warmup:
            return self.learning_rate * share / self.warmup
        return (
            0.5 * self.learning_rate * (1.0 + math.cos(math.pi * min(1.0, (share - self.warmup) / (1 - self.warmup))))
        )

    def loss_form(self) -> Distillation:
        """The teacher's loss as distillation knows it: T^2 KL, no labels."""
        return Distillation.model_validate({"form": "kl", "temperature": self.temperature})

    def optimizer_form(self) -> Training:
        """What the optimiser is built from."""
        names = ("optimizer", "learning_rate", "momentum", "nesterov", "weight_decay", "clip_gradient_norm")
        return Training.model_validate({name: getattr(self, name) for name in names})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: all that the numbers depend on."""
        values = asdict(self) | {"features": dict(self.features)}
        return {name: value for name, value in values.items() if name != "checkpoint_seconds"}


@dataclass(frozen=True)
class TuneRow:
    """One look at the held-out images.

    step         optimiser steps behind it
    share        of the budget that was spent
    loss         mean of what was descended since the row before; 0 in the first row
    held_out     T^2 KL(teacher || student) of the held-out images, mean over images
    agreement    percent of them in which student and teacher name the same class
    counts       whether the masks had their final number of zeros, so that this network may be the result
    seconds      spent so far, all starts of the run together
    """

    step: int
    share: float
    loss: float
    held_out: float
    agreement: float
    counts: bool
    seconds: float


@dataclass(frozen=True)
class TuneHistory:
    """All looks at the held-out images, oldest first; the network of row `best` is the result."""

    rows: tuple[TuneRow, ...]
    best: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"rows": [asdict(row) for row in self.rows], "best": self.best}

    def __str__(self) -> str:
        lines = ["  step  budget %      loss  held out  agree %  seconds"]
        lines += [
            f"{row.step:6d}  {100 * row.share:8.1f}  {row.loss:8.4f}  {row.held_out:8.4f}  {row.agreement:7.2f}  "
            f"{row.seconds:7.1f}{'  result' if number == self.best else ''}"
            for number, row in enumerate(self.rows)
        ]
        return "\n".join(lines)
