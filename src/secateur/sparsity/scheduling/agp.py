"""Automated gradual pruning: a cubic ramp, fast first, in three conventions.

    agp                epochs (Distiller):    span = ((end - start - 1) // every) * every
                       s(e) = s_f + (s_i - s_f) (1 - (e - start)/span)^3       e = start, start + every, ...
    agp_iterations     iterations (PocketFlow):    t_b = int(r_b T)   t_e = int(r_e T)
                       s(t) = s_f (1 - (1 - x)^alpha)     x = clip((t - t_b)/(t_e - t_b), 0, 1)
    cubic_steps        n steps of D (Zhu & Gupta):
                       s(t) = s_f + (s_i - s_f) (1 - (t - t_0)/(n D))^3        t = t_0, t_0 + D, ..., t_0 + n D
                       or, with (n - 1) D below the line, the target at the n-th level (MSBench)

In epochs, `end` is exclusive: the last scheduled epoch is below it and reaches the final level exactly; the
level stays afterwards. In iterations masks change every so many steps from t_b on, and at t_e.

Source: Zhu & Gupta 2017; the conventions are those of the tools named.
"""

from dataclasses import dataclass
from typing import Literal

from secateur.errors import SparsityError
from secateur.sparsity.schedule import Unit, check_levels, schedules
from secateur.sparsity.scheduling.ramps import Polynomial, Ramp


@schedules.register("agp")
@dataclass(frozen=True)
class AgpEpochs(Ramp):
    """The cubic ramp in epochs: `initial` at `start`, `final` at the last scheduled epoch before `end`."""

    def left(self, x: float) -> float:
        return (1.0 - x) ** 3


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
        check_levels(self.final)
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

    @property
    def stop(self) -> int | None:
        return self.last + 1

    def sparsity_at(self, position: int) -> float:
        """The level that masks chosen at this iteration get."""
        x = min(max((position - self.first) / (self.last - self.first), 0.0), 1.0)
        return self.final * (1.0 - (1.0 - x) ** self.exponent)

    def due(self, position: int) -> bool:
        if position == self.last:
            return True
        return self.first <= position < self.last and (position - self.first) % self.every == 0


@schedules.register("cubic_steps")
@dataclass(frozen=True)
class CubicSteps:
    """The cubic in `steps` equal steps of `every` positions.

    last_step    n: the target after n steps, so that there are n + 1 levels (Zhu & Gupta);
                 n-1: n levels, the n-th is the target (MSBench)
    """

    start: int
    every: int
    steps: int
    initial: float
    final: float
    last_step: Literal["n", "n-1"] = "n"
    unit: Unit = "epoch"

    def __post_init__(self) -> None:
        if self.steps < (2 if self.last_step == "n-1" else 1):
            raise SparsityError(
                f"{self.steps} steps with the target at step {self.last_step} are no rise; give one step more."
            )
        _ = self._ramp

    @property
    def _ramp(self) -> Polynomial:
        rises = self.steps if self.last_step == "n" else self.steps - 1
        end = self.start + rises * self.every + 1
        return Polynomial(self.start, end, self.every, self.initial, self.final, self.unit)

    @property
    def first(self) -> int:
        return self.start

    @property
    def end(self) -> int:
        """One past the last step."""
        return self._ramp.end

    @property
    def stop(self) -> int | None:
        return self.end

    def sparsity_at(self, position: int) -> float:
        return self._ramp.sparsity_at(position)

    def due(self, position: int) -> bool:
        return self._ramp.due(position)
