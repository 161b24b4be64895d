"""Distiller's learning-rate policies as the decay of a training.

    rate(e) = base * f(n)     n = policy epochs before e, from the policy's own start on; constant after its end

A policy that covers a training alone and is one of ours keeps its name (exponential, cosine, polynomial, plateau); all
others become `decay: step` with an epoch and a factor for every change, which is the same rate epoch by epoch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from secateur.recipe.importers.distiller.policies import Policy
from secateur.recipe.importers.reading import Fields, Reading
from secateur.registry import unknown

# A rate of zero (the end of a cosine) stands still as surely as this.
SMALLEST = 1e-9
# Beyond this a learning rate is a mistake.
LARGEST = 1e6


@dataclass(frozen=True)
class Rate:
    """One policy: the rate after n of its epochs, from the rate at its start.

    native    the keys of our own decay, where there is one
    span      epochs that our own decay must cover to be the same: None: any number
    """

    policy: Policy
    at: Callable[[float, int], float]
    native: dict[str, Any] | None = None
    span: int | None = None
    memoryless: bool = False


def read_rate(reading: Reading, policy: Policy) -> Rate:
    """The learning-rate scheduler that a policy uses. raises RecipeError for an unknown class or argument."""
    fields = reading.fields(("lr_schedulers", policy.instance), f"lr_scheduler '{policy.instance}'")
    name = fields.text("class")
    if name not in _READERS:
        fields.fail("class", unknown("class", name, _READERS))
    fields.ignore("last_epoch")
    at, native, span, memoryless = _READERS[name](fields)
    fields.finish()
    if policy.start > 0 and name not in ("ExponentialLR", "ReduceLROnPlateau"):
        reading.note(
            policy.at,
            f"{name} counts epochs from its own start, {policy.start}; Distiller's last version counted from epoch 0.",
        )
    return Rate(policy, at, native, span, memoryless)


def check_rates(reading: Reading, rates: Sequence[Rate]) -> None:
    """raises    RecipeError  two policies that set the rate in the same epoch"""
    for before, after in pairwise(rates):
        if after.policy.start < before.policy.end:
            reading.fail(
                after.policy.at,
                f"the learning-rate policies '{before.policy.instance}' and '{after.policy.instance}' contradict each "
                f"other in epoch {after.policy.start}.",
            )


def rate_at(rates: Sequence[Rate], base: float, epoch: int) -> float:
    """The learning rate of an epoch of the whole run."""
    rate = base
    for entry in rates:
        done = sum(at < epoch for at in entry.policy.epochs)
        if entry.policy.start <= epoch and not _is_plateau(entry):
            rate = entry.at(rate, min(done, len(entry.policy.epochs) - 1))
    return max(rate, SMALLEST)


def decay_of(reading: Reading, rates: Sequence[Rate], base: float, start: int, end: int) -> dict[str, Any]:
    """The keys of a training over the epochs start..end-1 of the run that give every epoch its rate."""
    try:
        table = [rate_at(rates, base, epoch) for epoch in range(start, end)]
    except OverflowError:
        table = [math.inf]
    if max(table) > LARGEST:
        reading.fail(rates[-1].policy.at, f"the learning rate rises above {LARGEST:g}; its factors are too large.")
    keys: dict[str, Any] = {"learning_rate": table[0]}
    watching = [rate for rate in rates if _is_plateau(rate) and rate.policy.start < start]
    if watching:
        reading.note(
            watching[-1].policy.at,
            f"'{watching[-1].policy.instance}' lowers the rate as the test loss demands; in epoch {start}, where the "
            f"training is cut, the rate is {table[0]:g} again and patience is counted anew.",
        )
    active = [rate for rate in rates if rate.policy.start < end and rate.policy.end > start]
    if any(_is_plateau(rate) for rate in active) and len(active) > 1:
        reading.fail(active[1].policy.at, "ReduceLROnPlateau and another learning-rate policy cannot share a training.")
    if len(active) == 1:
        native = _native(active[0], start, end)
        if native is not None:
            return keys | native
    changes = [
        (epoch, after / before)
        for epoch, (before, after) in enumerate(pairwise(table), 1)
        if not math.isclose(before, after, rel_tol=1e-12)
    ]
    if not changes:
        return keys | {"decay": "constant"}
    keys |= {"decay": "step", "step_epochs": [epoch for epoch, _ in changes]}
    factors = [factor for _, factor in changes]
    if factors[0] <= 1 and all(math.isclose(factor, factors[0], rel_tol=1e-9) for factor in factors):
        return keys | {"step_gamma": _clean(factors[0])}
    return keys | {"step_gammas": [_clean(factor) for factor in factors]}


def _native(rate: Rate, start: int, end: int) -> dict[str, Any] | None:
    policy = rate.policy
    if rate.native is None or policy.every != 1:
        return None
    if policy.start < start and not rate.memoryless:
        return None
    if rate.span is not None and rate.span != min(policy.end, end) - policy.start:
        return None
    keys = dict(rate.native)
    if policy.start > start:
        keys["decay_start"] = policy.start - start
    if policy.end < end:
        keys["decay_end"] = policy.end - start
    return keys


def _is_plateau(rate: Rate) -> bool:
    return rate.native is not None and rate.native["decay"] == "plateau"


def _clean(factor: float) -> float:
    """0.1, where the quotient of two rates is 0.10000000000000002."""
    return float(f"{factor:.12g}")


Parts = tuple[Callable[[float, int], float], dict[str, Any] | None, int | None, bool]


def _step(fields: Fields) -> Parts:
    size, gamma = fields.whole("step_size", low=1), fields.number("gamma", 0.1, low=1e-9)
    return (lambda rate, n: rate * gamma ** (n // size)), None, None, False


def _multi_step(fields: Fields) -> Parts:
    milestones, gamma = fields.numbers("milestones"), fields.number("gamma", 0.1, low=1e-9)
    return (lambda rate, n: rate * gamma ** sum(m <= n for m in milestones)), None, None, False


def _multi_gamma(fields: Fields) -> Parts:
    milestones, gammas = fields.numbers("milestones"), fields.numbers("gammas")
    if len(milestones) != len(gammas) or any(gamma <= 0 for gamma in gammas):
        fields.fail("gammas", "'gammas' holds one factor above 0 for each of 'milestones'.")
    pairs = tuple(zip(milestones, gammas, strict=True))
    return (lambda rate, n: rate * math.prod(g for m, g in pairs if m <= n)), None, None, False


def _exponential(fields: Fields) -> Parts:
    gamma = fields.number("gamma", low=1e-9)
    native = {"decay": "exponential", "step_gamma": gamma} if gamma <= 1 else None
    return (lambda rate, n: rate * gamma**n), native, None, True


def _cosine(fields: Fields) -> Parts:
    span, low = fields.whole("T_max", low=1), fields.number("eta_min", 0.0, low=0.0)

    def at(rate: float, n: int) -> float:
        return low + (rate - low) * (1 + math.cos(math.pi * n / span)) / 2

    return at, {"decay": "cosine", "final_learning_rate": low}, span, False


def _polynomial(fields: Fields) -> Parts:
    span, power = fields.whole("T_max", low=1), fields.number("power", low=1e-9)

    def at(rate: float, n: int) -> float:
        return rate * max(1 - n / span, 0.0) ** power

    return at, {"decay": "polynomial", "decay_power": power}, span, False


def _plateau(fields: Fields) -> Parts:
    fields.text("mode", "min", choices=("min", "max"))
    factor, patience = fields.number("factor", 0.1, low=1e-9, high=1.0), fields.whole("patience", 10)
    fields.ignore("verbose", "eps")
    fields.ignore(
        "threshold", "threshold_mode", "cooldown", "min_lr", because="plateau knows a factor and a patience only"
    )
    native = {"decay": "plateau", "step_gamma": factor, "decay_patience": patience}
    return (lambda rate, n: rate), native, None, True


_READERS: dict[str, Callable[[Fields], Parts]] = {
    "StepLR": _step,
    "MultiStepLR": _multi_step,
    "MultiStepMultiGammaLR": _multi_gamma,
    "ExponentialLR": _exponential,
    "CosineAnnealingLR": _cosine,
    "PolynomialLR": _polynomial,
    "ReduceLROnPlateau": _plateau,
}
