"""The learning rate as a function of the step alone, so that a resumed run cannot get it wrong.

    warm-up    lr(t) = base (t + 1) / w                                      t < w = round(warmup_epochs * S)
    cosine     lr(t) = c base + (1 - c) end     c = (1 + cos(pi (t - w) / (T - w))) / 2
    step       lr(t) = base gamma^k     k = milestones (epochs) at or before the epoch of t
    constant   lr(t) = base

with S steps in an epoch and T in the run. The first step after the warm-up has the base rate exactly; the
cosine would reach its end at step T, which is one past the last.

Source: Loshchilov & Hutter 2017 (cosine); Goyal et al. 2017 (linear warm-up per iteration).
"""

import math

from secateur.errors import TrainingError
from secateur.recipe import Training


def learning_rate(config: Training, step: int, steps_per_epoch: int) -> float:
    """The learning rate of optimiser step `step`, counted from 0 over the whole run."""
    total, warmup = config.epochs * steps_per_epoch, warmup_steps(config, steps_per_epoch)
    base, end = config.learning_rate, config.final_learning_rate
    if step < warmup:
        return base * ((step + 1) / warmup)
    if config.decay == "cosine":
        share = 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        return share * base + (1.0 - share) * end
    if config.decay == "step":
        passed = sum(step >= epoch * steps_per_epoch for epoch in config.step_epochs)
        return base * config.step_gamma**passed
    return base


def warmup_steps(config: Training, steps_per_epoch: int) -> int:
    """Optimiser steps of the warm-up. raises TrainingError when it would fill the whole run."""
    steps = round(config.warmup_epochs * steps_per_epoch)
    if steps and steps >= config.epochs * steps_per_epoch:
        raise TrainingError(
            f"a warm-up of {config.warmup_epochs:g} epochs leaves nothing of a run of {config.epochs}; "
            f"warmup_epochs must be below epochs."
        )
    return steps
