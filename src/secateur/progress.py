"""Progress of long work: a bar with the time left on a terminal, plain lines elsewhere.

    with track(len(batches), "epoch 3/10") as progress:
        for batch in batches:
            ...
            progress.advance(loss=0.41)

Everything goes to standard error; standard output stays free for results. Of several processes that torchrun started,
only the first speaks.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Work within work, such as the trainings of a search, is not shown: one bar at a time.
_shown = False

console = Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0")

# A log file wants few lines: one at most every so many seconds, and one at the end.
PLAIN_LINE_SECONDS = 15.0


class Tracker(Protocol):
    def advance(self, steps: int = 1, **fields: float | str) -> None:
        """Report that `steps` more are done; `fields` are shown beside the bar."""
        ...


def say(message: str) -> None:
    """One line for the user, on standard error."""
    console.print(message, highlight=False, soft_wrap=True, markup=False)


@contextlib.contextmanager
def track(total: int | None, description: str) -> Iterator[Tracker]:
    """Show the progress of `total` steps (None: not known) under the name `description`; nothing inside another."""
    global _shown
    if _shown:
        yield _SilentTracker()
        return
    _shown = True
    try:
        with _visible(total, description) as progress:
            yield progress
    finally:
        _shown = False


@contextlib.contextmanager
def _visible(total: int | None, description: str) -> Iterator[Tracker]:
    if not console.is_terminal:
        plain = _PlainTracker(total, description)
        yield plain
        plain.close()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield _BarTracker(progress, progress.add_task(description, total=total, note=""))


def _note(fields: dict[str, float | str]) -> str:
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in fields.items())


class _SilentTracker:
    def advance(self, steps: int = 1, **fields: float | str) -> None:
        pass


class _BarTracker:
    def __init__(self, progress: Progress, task: int) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: int = 1, **fields: float | str) -> None:
        extra = {"note": _note(fields)} if fields else {}
        self._progress.update(self._task, advance=steps, **extra)  # type: ignore[arg-type]


class _PlainTracker:
    def __init__(self, total: int | None, description: str) -> None:
        self._total, self._description = total, description
        self._done, self._fields = 0, {}
        self._started = self._spoken = time.monotonic()

    def advance(self, steps: int = 1, **fields: float | str) -> None:
        self._done += steps
        self._fields = fields or self._fields
        # The end is told once, by `close`.
        if self._done != self._total and time.monotonic() - self._spoken >= PLAIN_LINE_SECONDS:
            self._speak()

    def close(self) -> None:
        self._speak()

    def _speak(self) -> None:
        self._spoken = time.monotonic()
        elapsed = self._spoken - self._started
        of_total = f"/{self._total}" if self._total else ""
        left = ""
        if self._total and 0 < self._done < self._total:
            left = f", {elapsed / self._done * (self._total - self._done):.0f} s left"
        say(f"{self._description}: {self._done}{of_total} in {elapsed:.0f} s{left}  {_note(self._fields)}".rstrip())
