"""Schedules: sparsity over time, and when masks change.

    one_shot           s from the first step on
    agp                epochs (Distiller):    span = ((end - start - 1) // every) * every
                       s(e) = s_f + (s_i - s_f) (1 - (e - start)/span)^3       e = start, start + every, ...
    agp_iterations     iterations (PocketFlow):    t_b = int(r_b T)   t_e = int(r_e T)
                       s(t) = s_f (1 - (1 - x)^alpha)     x = clip((t - t_b)/(t_e - t_b), 0, 1)

In epochs, `end` is exclusive: the last scheduled epoch is below it and reaches the final level exactly; the
level stays afterwards. In iterations masks change every so many steps from t_b on, and at t_e.

Source: Zhu & Gupta 2017; the two conventions are those of the tools named.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from secateur.errors import SparsityError
from secateur.registry import Registry

Unit = Literal["epoch", "iteration"]


class Schedule(Protocol):
    """What a sparsifier asks: which level at a position, and whether masks change there."""

    @property
    def unit(self) -> Unit: ...

    @property
    def final(self) -> float: ...

    def sparsity_at(self, position: int) -> float: ...

    def due(self, position: int) -> bool: ...


schedules: Registry[Callable[..., Schedule]] = Registry("schedule")


@schedules.register("one_shot")
@dataclass(frozen=True)
class OneShot:
    """All zeros at position 0; the masks are chosen once."""

    final: float
    unit: Unit = "epoch"

    def __post_init__(self) -> None:
        _check_levels(0.0, self.final)

    def sparsity_at(self, position: int) -> float:
        return self.final

    def due(self, position: int) -> bool:
        return position == 0


@schedules.register("agp")
@dataclass(frozen=True)
class AgpEpochs:
    """The cubic ramp in epochs: `initial` at `start`, `final` at the last scheduled epoch before `end`."""

    start: int
    end: int
    every: int
    initial: float
    final: float

    def __post_init__(self) -> None:
        _check_levels(self.initial, self.final)
        if self.initial >= self.final:
            raise SparsityError(
                f"a gradual schedule must rise: initial {self.initial:g} is not below final {self.final:g}."
            )
        if self.start < 0 or self.every < 1 or self.span <= 0:
            raise SparsityError(
                f"a gradual schedule from epoch {self.start} to {self.end} (exclusive) every {self.every} "
                f"has fewer than two steps; end must be at least start + every + 1."
            )

    @property
    def unit(self) -> Unit:
        return "epoch"

    @property
    def span(self) -> int:
        """Epochs from the first to the last scheduled one."""
        return (self.end - self.start - 1) // self.every * self.every

    def sparsity_at(self, position: int) -> float:
        """The level in force at an epoch: that of the last scheduled one; 0 before the first."""
        if position < self.start:
            return 0.0
        scheduled = min((position - self.start) // self.every * self.every, self.span)
        return self.final + (self.initial - self.final) * (1.0 - scheduled / self.span) ** 3

    def due(self, position: int) -> bool:
        elapsed = position - self.start
        return 0 <= elapsed <= self.span and elapsed % self.every == 0


@schedules.register("agp_iterations")
@dataclass(frozen=True)
class AgpIterations:
    """The ramp in iterations, from 0 at `begin` to `final` at `end`, both fractions of `total` iterations."""

    total: int
    final: float
    begin: float = 0.1
    end: float = 0.5
    exponent: float = 3.0
    every: int = 500

    def __post_init__(self) -> None:
        _check_levels(0.0, self.final)
        if not (self.begin >= 0.0 and self.end <= 1.0 and self.first < self.last):
            raise SparsityError(
                f"a schedule from {self.begin:g} to {self.end:g} of {self.total} iterations has no room to "
                f"rise: begin must lie before end by one iteration or more, both within 0 and 1."
            )
        if self.every < 1 or self.exponent <= 0:
            raise SparsityError(
                f"every must be at least 1 and exponent above 0, not {self.every} and {self.exponent:g}."
            )

    @property
    def unit(self) -> Unit:
        return "iteration"

    @property
    def first(self) -> int:
        return int(self.begin * self.total)

    @property
    def last(self) -> int:
        # The run has no iteration number `total`: a ramp over all of it ends with its last one.
        return min(int(self.end * self.total), self.total - 1)

    def sparsity_at(self, position: int) -> float:
        """The level that masks chosen at this iteration get."""
        x = min(max((position - self.first) / (self.last - self.first), 0.0), 1.0)
        return self.final * (1.0 - (1.0 - x) ** self.exponent)

    def due(self, position: int) -> bool:
        if position == self.last:
            return True
        return self.first <= position < self.last and (position - self.first) % self.every == 0


def _check_levels(initial: float, final: float) -> None:
    for level in (initial, final):
        if not 0.0 <= level <= 1.0:
            raise SparsityError(f"a scheduled sparsity is a fraction from 0 to 1, not {level}.")
