"""Ramps: a rise from s_i at `start` to s_f at the last scheduled position before `end`.

    span = ((end - start - 1) // every) every            x = (t - start) / span      t = start, start + every, ...
    linear         s = s_f + (s_i - s_f) (1 - x)
    polynomial     s = s_f + (s_i - s_f) (1 - x)^alpha
    cosine         s = s_f + (s_i - s_f) (1 + cos(pi x)) / 2
    exponential    1 - s = (1 - s_i)^(1 - x) (1 - s_f)^x      every step removes the same share of what is left

`end` is exclusive. Between two scheduled positions the level stays, and so it does after the last one, where it is
s_f exactly.

Source: Zhu & Gupta 2017 for the polynomial; the others are the usual shapes on the same grid.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from secateur.errors import SparsityError
from secateur.sparsity.schedule import Unit, check_levels, schedules


@dataclass(frozen=True)
class Ramp(ABC):
    """`initial` at `start`, `final` at the last scheduled position before `end`; 0 before `start`."""

    start: int
    end: int
    every: int
    initial: float
    final: float
    unit: Unit = "epoch"

    def __post_init__(self) -> None:
        check_levels(self.initial, self.final)
        if self.initial >= self.final:
            raise SparsityError(
                f"a gradual schedule must rise: initial {self.initial:g} is not below final {self.final:g}."
            )
        if self.start < 0 or self.every < 1 or self.span <= 0:
            raise SparsityError(
                f"a gradual schedule from {self.unit} {self.start} to {self.end} (exclusive) every {self.every} "
                f"has fewer than two steps; end must be at least start + every + 1."
            )

    @abstractmethod
    def left(self, x: float) -> float:
        """Which share of the way is left, 1 at x = 0 and 0 at x = 1."""

    @property
    def first(self) -> int:
        return self.start

    @property
    def stop(self) -> int | None:
        return self.end

    @property
    def span(self) -> int:
        """Positions from the first to the last scheduled one."""
        return (self.end - self.start - 1) // self.every * self.every

    def sparsity_at(self, position: int) -> float:
        """The level in force: that of the last scheduled position; 0 before the first."""
        if position < self.start:
            return 0.0
        scheduled = min((position - self.start) // self.every * self.every, self.span)
        return self.final + (self.initial - self.final) * self.left(scheduled / self.span)

    def due(self, position: int) -> bool:
        elapsed = position - self.start
        return 0 <= elapsed <= self.span and elapsed % self.every == 0


@schedules.register("linear")
@dataclass(frozen=True)
class Linear(Ramp):
    """The same rise at every step."""

    def left(self, x: float) -> float:
        return 1.0 - x


@schedules.register("polynomial")
@dataclass(frozen=True)
class Polynomial(Ramp):
    """Fast first, the faster the larger the exponent."""

    exponent: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.exponent <= 0:
            raise SparsityError(f"the exponent of a polynomial schedule must be above 0, not {self.exponent:g}.")

    def left(self, x: float) -> float:
        return (1.0 - x) ** self.exponent


@schedules.register("cosine")
@dataclass(frozen=True)
class Cosine(Ramp):
    """Slow at both ends."""

    def left(self, x: float) -> float:
        return (1.0 + math.cos(math.pi * x)) / 2.0


@schedules.register("exponential")
@dataclass(frozen=True)
class Exponential(Ramp):
    """Every step removes the same share of the weights that are left."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.final == 1.0:
            raise SparsityError("an exponential schedule cannot end at sparsity 1; its final level must be below 1.")

    def left(self, x: float) -> float:
        if x == 1.0:
            return 0.0
        kept = (1.0 - self.initial) ** (1.0 - x) * (1.0 - self.final) ** x
        return (kept - (1.0 - self.final)) / (self.final - self.initial)
