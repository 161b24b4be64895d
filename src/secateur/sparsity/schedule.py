"""What a schedule is: sparsity over time, and when masks change.

A schedule counts in epochs or in iterations. At the positions where it is `due` the masks are chosen at the level
`sparsity_at`; between them they stay. Every family is a file in `scheduling/`: frozen dataclasses of plain numbers
under `@schedules.register(name)`, where the name is the recipe's `kind`.
"""

from collections.abc import Callable
from typing import Literal, Protocol

from secateur.errors import SparsityError
from secateur.registry import Registry

Unit = Literal["epoch", "iteration"]


class Timing(Protocol):
    """When masks change.

    first    position at which they are chosen for the first time
    stop     first position after the last change that may come; None: there is no such position
    """

    @property
    def unit(self) -> Unit: ...

    @property
    def first(self) -> int: ...

    @property
    def stop(self) -> int | None: ...

    def due(self, position: int) -> bool: ...


class Schedule(Timing, Protocol):
    """What a sparsifier asks: which level at a position, and whether masks change there."""

    @property
    def final(self) -> float: ...

    def sparsity_at(self, position: int) -> float: ...


schedules: Registry[Callable[..., Schedule]] = Registry("schedule")


def check_levels(*levels: float) -> None:
    """raises SparsityError unless all of them are fractions."""
    for level in levels:
        if not 0.0 <= level <= 1.0:
            raise SparsityError(f"a scheduled sparsity is a fraction from 0 to 1, not {level}.")


def due_every(position: int, start: int, end: int | None, every: int) -> bool:
    """Whether `position` is one of start, start + every, ... below `end` (None: without end)."""
    return position >= start and (position - start) % every == 0 and (end is None or position < end)


def check_window(start: int, end: int | None, every: int, unit: Unit = "epoch") -> None:
    """raises SparsityError unless start <= t < end holds a position and `every` is a step forward."""
    if start < 0 or every < 1 or (end is not None and end <= start):
        raise SparsityError(
            f"a schedule from {unit} {start} to {end} (exclusive) every {every} has no position; start must be 0 or "
            f"more, end above it, and every at least 1."
        )
