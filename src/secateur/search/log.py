"""The roll-outs of a search as files, so that a search that was killed goes on.

settings.json           what the search depends on; the log of another search is refused
rollouts/00000.json     actions, table, accuracy and reward of one roll-out, whole or absent
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from secateur.errors import ArtifactError
from secateur.files import read_json, remove_leftovers, write_json

SETTINGS_FILE, ROLLOUTS_FOLDER = "settings.json", "rollouts"


@dataclass(frozen=True)
class Rollout:
    """One table that was tried.

    actions     of the learner, in the order of the decisions
    table       layer or group -> its share
    accuracy    a fraction
    """

    number: int
    actions: tuple[float, ...]
    table: dict[str, float]
    accuracy: float
    reward: float


class RolloutLog:
    """What a folder holds of a search.

    description    plain JSON of all that the search depends on
    writes         whether this process writes; every other one of a group only reads
    raises         ArtifactError  the folder holds another search
    """

    def __init__(self, folder: Path, description: dict[str, Any], names: tuple[str, ...], writes: bool = True) -> None:
        self.folder, self._writes = folder, writes
        own = json.loads(json.dumps(description))
        marker = folder / SETTINGS_FILE
        if marker.is_file() and read_json(marker) != own:
            raise ArtifactError(
                f"{folder}: holds a search of another network, other images or other settings; choose another folder, "
                "or remove it."
            )
        if writes:
            remove_leftovers(folder)
            if not marker.is_file():
                write_json(marker, own)
        self.rows: list[Rollout] = []
        while (row := _read(self._path(len(self.rows)), len(self.rows), names)) is not None:
            self.rows.append(row)

    def add(self, row: Rollout) -> None:
        """Append a roll-out. raises DiskError."""
        self.rows.append(row)
        if self._writes:
            write_json(self._path(row.number), asdict(row))

    def _path(self, number: int) -> Path:
        return self.folder / ROLLOUTS_FOLDER / f"{number:05d}.json"


def _read(path: Path, number: int, names: tuple[str, ...]) -> Rollout | None:
    """A roll-out of before; None when it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        value = read_json(path)
        row = Rollout(
            number=int(value["number"]),
            actions=tuple(float(action) for action in value["actions"]),
            table={str(name): float(share) for name, share in value["table"].items()},
            accuracy=float(value["accuracy"]),
            reward=float(value["reward"]),
        )
    except (ArtifactError, KeyError, TypeError, ValueError, AttributeError):
        return None
    numbers = (*row.actions, *row.table.values(), row.accuracy, row.reward)
    fits = row.number == number and len(row.actions) == len(names) and tuple(row.table) == names
    return row if fits and all(map(math.isfinite, numbers)) else None
