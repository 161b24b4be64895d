"""The learning rate as a function of the step and of the epochs behind it, so that a resumed run cannot get it wrong.

    warm-up        lr(t) = base (t + 1) / w                              t < w = round(warmup_epochs * S)
    cosine         lr(t) = c base + (1 - c) end    c = (1 + cos(pi (t - v) / (b S - v))) / 2    v = max(w, a S)
    step           lr(t) = base g_1 ... g_k        k = milestones (epochs) from a on, at or before the epoch e of t
    exponential    lr(t) = base g^(e - a)
    polynomial     lr(t) = base (1 - (e - a) / (b - a))^p
    plateau        lr(t) = base g^k                k = how often the test loss was not better for more than `patience`
                                                   epochs in a row; better: below (1 - 1e-4) of the best before
    constant       lr(t) = base

with S steps in an epoch. A decay acts in its own epochs only, a <= e < b (decay_start, decay_end; by default all):
before them the rate is `base`, after them what it was in their last step. The first step after the warm-up has the
base rate exactly; the cosine would reach its end at step b S, which is one past the last.

Source: Loshchilov & Hutter 2017 (cosine); Goyal et al. 2017 (linear warm-up per iteration); the others as in
torch.optim.lr_scheduler, with a factor for each milestone and the polynomial of Distiller.
"""

import math
from collections.abc import Sequence

from secateur.errors import TrainingError
from secateur.recipe import Training
from secateur.training.history import Row

MARGIN = 1e-4


def learning_rate(config: Training, step: int, steps_per_epoch: int, rows: Sequence[Row] = ()) -> float:
    """The learning rate of optimiser step `step`, counted from 0 over the whole run.

    rows    the epochs that are complete: what a plateau is found in
    """
    warmup, base = warmup_steps(config, steps_per_epoch), config.learning_rate
    if step < warmup:
        return base * ((step + 1) / warmup)
    first, end = config.decay_start, config.decay_end or max(config.epochs, config.decay_start + 1)
    step = min(step, end * steps_per_epoch - 1)
    epoch = step // steps_per_epoch
    if epoch < first:
        return base
    match config.decay:
        case "cosine":
            opens, closes = max(warmup, first * steps_per_epoch), end * steps_per_epoch
            share = 0.5 * (1.0 + math.cos(math.pi * (step - opens) / (closes - opens)))
            return share * base + (1.0 - share) * config.final_learning_rate
        case "step":
            return base * math.prod(gamma for at, gamma in _milestones(config) if first <= at <= epoch)
        case "exponential":
            return base * config.step_gamma ** (epoch - first)
        case "polynomial":
            return base * (1.0 - (epoch - first) / (end - first)) ** config.decay_power
        case "plateau":
            losses = [row.test_loss for row in rows if first <= row.epoch < end]
            return base * config.step_gamma ** plateaus(losses, config.decay_patience)
        case "constant":
            return base


def warmup_steps(config: Training, steps_per_epoch: int) -> int:
    """Optimiser steps of the warm-up. raises TrainingError when it would fill the whole run, or its decay."""
    steps = round(config.warmup_epochs * steps_per_epoch)
    if steps and steps >= config.epochs * steps_per_epoch:
        raise TrainingError(
            f"a warm-up of {config.warmup_epochs:g} epochs leaves nothing of a run of {config.epochs}; "
            f"warmup_epochs must be below epochs."
        )
    if config.decay_end is not None and steps >= config.decay_end * steps_per_epoch:
        raise TrainingError(
            f"a warm-up of {config.warmup_epochs:g} epochs leaves nothing of a decay that ends at epoch "
            f"{config.decay_end}; warmup_epochs must be below decay_end."
        )
    return steps


def plateaus(losses: Sequence[float | None], patience: int) -> int:
    """How often a loss was not better than the best before for more than `patience` epochs in a row.

    losses    one per epoch, the oldest first; None and what is no number are not better than anything
    """
    best, waited, found = math.inf, 0, 0
    for loss in losses:
        if loss is not None and loss < best * (1.0 - MARGIN):
            best, waited = loss, 0
        else:
            waited += 1
        if waited > patience:
            waited, found = 0, found + 1
    return found


def _milestones(config: Training) -> list[tuple[int, float]]:
    gammas = config.step_gammas or (config.step_gamma,) * len(config.step_epochs)
    return list(zip(config.step_epochs, gammas, strict=True))
