"""A time box: how much of a budget is left, over all starts of a run that was killed in between.

A step that goes on after a kill must be told the same number of seconds again, or it would be another step: what it was
granted the first time is remembered.
"""

import time
from pathlib import Path
from typing import Any

from secateur.errors import ArtifactError
from secateur.files import read_json, write_json

FILE = "time.json"


class TimeBox:
    """Seconds of a budget.

    budget    None: as long as it takes
    folder    remembers what earlier starts have used, as of the last `note`, and what was granted
    raises    ArtifactError  what it remembers is damaged
    """

    def __init__(self, budget: float | None, folder: Path) -> None:
        self.budget = budget
        self._file = folder / FILE
        self._before, self._grants = _read(self._file, budget)
        self._started = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds, all starts together."""
        return self._before + time.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds until the budget is used up, at least 0; infinite without one."""
        return float("inf") if self.budget is None else max(0.0, self.budget - self.spent)

    def grant(self, step: str, share: float = 1.0, reserve: float = 0.0) -> float | None:
        """Seconds for a step: `share` of what is left behind `reserve`; the first answer holds for all starts.

        returns    None without a budget
        """
        if self.budget is None:
            return None
        if step not in self._grants:
            self._grants[step] = share * max(0.0, self.left - reserve)
            self.note()
        return self._grants[step]

    def note(self) -> None:
        """Remember what has been used."""
        write_json(self._file, {"budget": self.budget, "seconds": self.spent, "grants": self._grants})


def _read(path: Path, budget: float | None) -> tuple[float, dict[str, float]]:
    """(seconds spent, grants); grants of another budget are void."""
    if not path.is_file():
        return 0.0, {}
    value: Any = read_json(path)
    try:
        seconds, grants = float(value["seconds"]), {str(step): float(own) for step, own in value["grants"].items()}
        if not seconds >= 0 or not all(own >= 0 for own in grants.values()):
            raise ValueError("a time below 0")
        return seconds, grants if value["budget"] == budget else {}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path}: this is not the time that a run has taken; delete it to begin again.") from error
