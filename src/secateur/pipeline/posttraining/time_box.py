"""A time box: how much of a budget is left, over all starts of a run that was killed in between."""

import time
from pathlib import Path

from secateur.errors import ArtifactError
from secateur.files import read_json, write_json

FILE = "time.json"


class TimeBox:
    """Seconds of a budget.

    budget    None: as long as it takes
    folder    remembers what earlier starts have used, as of the last `note`
    """

    def __init__(self, budget: float | None, folder: Path) -> None:
        self.budget = budget
        self._file = folder / FILE
        self._before = _read(self._file)
        self._started = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds, all starts together."""
        return self._before + time.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds until the budget is used up, at least 0; infinite without one."""
        return float("inf") if self.budget is None else max(0.0, self.budget - self.spent)

    def note(self) -> None:
        """Remember what has been used."""
        write_json(self._file, {"seconds": self.spent})


def _read(path: Path) -> float:
    if not path.is_file():
        return 0.0
    value = read_json(path)
    seconds = value.get("seconds") if isinstance(value, dict) else None
    if not isinstance(seconds, int | float) or not seconds >= 0:
        raise ArtifactError(f"{path}: this is not the time that a run has taken.")
    return float(seconds)
