"""Levels without a ramp.

    fixed     s(e) = s from the first of the given epochs on; masks are chosen at each of them
    random    s(e) = low + (high - low) u,   u uniform, the same for the same seed and epoch

Source: Distiller's level pruners and its RandomLevelStructureParameterPruner.
"""

from dataclasses import dataclass
from random import Random

from secateur.errors import SparsityError
from secateur.sparsity.schedule import Unit, check_levels, check_window, due_every, schedules


@schedules.register("fixed")
@dataclass(frozen=True)
class FixedLevels:
    """One level from the first of the epochs `at` on; the masks are chosen at each of them."""

    final: float
    at: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        check_levels(self.final)
        if not self.at or min(self.at) < 0:
            raise SparsityError(f"fixed levels need epochs from 0 on, not {list(self.at)}.")

    @property
    def unit(self) -> Unit:
        return "epoch"

    @property
    def first(self) -> int:
        return min(self.at)

    @property
    def stop(self) -> int | None:
        return max(self.at) + 1

    def sparsity_at(self, position: int) -> float:
        return self.final if position >= self.first else 0.0

    def due(self, position: int) -> bool:
        return position in self.at


@schedules.register("random")
@dataclass(frozen=True)
class RandomLevel:
    """At every scheduled epoch a level drawn from `low` to `high`; the last one stays."""

    low: float
    high: float
    start: int
    end: int
    every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_levels(self.low, self.high)
        check_window(self.start, self.end, self.every)
        if self.low > self.high:
            raise SparsityError(f"a random level needs low at most high, not {self.low:g} and {self.high:g}.")

    @property
    def unit(self) -> Unit:
        return "epoch"

    @property
    def final(self) -> float:
        """The largest level, which the plan is made for."""
        return self.high

    @property
    def first(self) -> int:
        return self.start

    @property
    def stop(self) -> int | None:
        return self.end

    def sparsity_at(self, position: int) -> float:
        """The level in force: that of the last scheduled epoch; 0 before the first."""
        if position < self.start:
            return 0.0
        elapsed = min(position, self.end - 1) - self.start
        epoch = self.start + elapsed // self.every * self.every
        # A text as seed is hashed by its bytes: equal everywhere, and unlike for neighbouring epochs.
        return self.low + (self.high - self.low) * Random(f"{self.seed} {epoch}").random()

    def due(self, position: int) -> bool:
        return due_every(position, self.start, self.end, self.every)
