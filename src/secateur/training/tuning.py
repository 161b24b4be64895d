"""How a sparse network is tuned on unlabelled images, and what came of it.

    rate(p)   = base p / w                                     p < w          p: the share of the budget that is spent
              = base (1 + cos(pi (p - w) / (1 - w))) / 2       p >= w         w: the share of the warm-up

A budget is a number of steps, a number of seconds, or both, whichever ends first; p is the larger of the two shares,
so that the rate has come down to zero when a time box closes, however fast the machine is.

No rate suits all networks: .01 is best for ResNet-20 far from its dense self and throws MobileNetV1 to another place
within 30 steps. Where a look finds the network twice as far away as it has been, the best one is taken back and the
rate rises again to a third of what it was: our own design. A lower bound sends runs back that are on their way: at 1.4
times, 1x4 blocks of ResNet-20 were taken back from 3.9 to 2.6 a quarter of the time into a run whose loss still fell,
and ended at 1.76; an earlier run that went on ended at 1.56. (Adam's first step is as long as the rate for all weights
at once: at the full third, MobileNetV1 was thrown away again.)
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from secateur.recipe import Distillation, Training, Tuning

# Mean divergence from which on a network is tuned at the full rate, and the least share of it.
FAR, LEAST_RATE = 0.2, 0.05
# From how many times the least distance on a tuning has lost its way, and what is left of its rate then.
LOST, SLOWER = 2.0, 1 / 3
# The first looks lie closer: shares of the budget at which they begin to be as far apart as settings say.
FIRST_LOOK = 0.01


def rate_at(settings: Tuning, share: float, since: float = 0.0) -> float:
    """The learning rate when `share` of the budget is spent; it has risen from 0 since a share of `since`."""
    risen = min(1.0, (share - since) / settings.warmup) if settings.warmup else 1.0
    fallen = min(1.0, max(0.0, share - settings.warmup) / (1 - settings.warmup))
    return 0.5 * settings.learning_rate * risen * (1.0 + math.cos(math.pi * fallen))


def adapted(settings: Tuning, distance: float) -> Tuning:
    """The settings with a learning rate that suits a network so far from the dense one, where they ask for it.

    rate = base min(1, (distance / .2)^.5), at least a twentieth of it: our own design. ResNet-20 at a distance of .7
    wants all of .01; at .016 (batches of 32, 240 steps) that brings it from .268 to .256, .003 to .204 (T 4).

    distance    mean KL(dense answer || answer)
    """
    if not settings.adapt_rate:
        return settings
    share = min(1.0, max(LEAST_RATE, (distance / FAR) ** 0.5))
    return settings.model_copy(update={"learning_rate": settings.learning_rate * share, "adapt_rate": False})


def lost(distance: float, least: float) -> bool:
    """Whether a network at this distance from the dense one has lost its way; one that is no number has too."""
    return not distance <= LOST * least


def apart(settings: Tuning, share: float) -> float:
    """Share of the budget between a look at `share` and the next one: 1, 1, 2, 4 ... percent, then all alike."""
    return min(1.0 / settings.evaluations, max(FIRST_LOOK, share))


def loss_form(settings: Tuning) -> Distillation:
    """The teacher's loss as distillation knows it: T^2 KL, no labels."""
    return Distillation.model_validate({"form": "kl", "temperature": settings.temperature})


def optimizer_form(settings: Tuning) -> Training:
    """What the optimiser is built from."""
    names = ("optimizer", "learning_rate", "momentum", "nesterov", "weight_decay", "clip_gradient_norm")
    return Training.model_validate({name: getattr(settings, name) for name in names})


def described(settings: Tuning) -> dict[str, Any]:
    """Plain JSON: all that the numbers depend on besides the budget."""
    return settings.model_dump(mode="json", exclude={"seconds", "steps", "checkpoint_seconds"})


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
