"""Times of candidates, kept in the user's cache as plain numbers.

Key: engine version, processor, instruction set, caches, threads, shape of the layer, density and fills rounded to one
percent, the candidates. A file that is damaged, foreign, or speaks of other candidates is ignored and written again.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from math import isfinite
from pathlib import Path

from secateur.engine.choice import Choice
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.object_cache import default_cache
from secateur.engine.target import Target
from secateur.engine.weights.pattern import Pattern
from secateur.errors import DiskError
from secateur.files import write_json

VERSION = 1
MOST_BYTES = 1 << 16


class TuningCache:
    """Results by key; in memory always, on disk where the cache of kernels may be used."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or _default_folder()
        self._known: dict[str, list[float]] = {}

    def key(self, target: Target, threads: int, shape: ConvShape, pattern: Pattern, choices: list[Choice]) -> str:
        """Everything a result depends on, as one word."""
        facts = {
            "version": VERSION,
            "target": asdict(target),
            "threads": threads,
            "shape": asdict(shape),
            "density": round(pattern.density, 2),
            "fills": {n: round(fill, 2) for n, fill in sorted(pattern.fills.items())},
            "single": pattern.single and round(pattern.single.density, 2),
            "single fills": pattern.single and {n: round(fill, 2) for n, fill in sorted(pattern.single.fills.items())},
            "choices": [asdict(choice) for choice in choices],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def get(self, key: str, choices: list[Choice]) -> list[tuple[Choice, float]] | None:
        """Seconds of each choice, if they are known."""
        seconds = self._known.get(key) or self._read(key)
        if seconds is None or len(seconds) != len(choices):
            return None
        self._known[key] = seconds
        return list(zip(choices, seconds, strict=True))

    def put(self, key: str, timed: list[tuple[Choice, float]]) -> None:
        """Keep the result of a timing."""
        self._known[key] = [seconds for _, seconds in timed]
        if self._folder is None:
            return
        # A folder that refuses the file costs the next process time, nothing else.
        with suppress(DiskError, OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_json(self._folder / f"{key}.json", {"seconds": self._known[key]})

    def _read(self, key: str) -> list[float] | None:
        if self._folder is None:
            return None
        file = self._folder / f"{key}.json"
        try:
            if file.stat().st_size > MOST_BYTES:
                return None
            seconds = json.loads(file.read_text())["seconds"]
            values = [float(value) for value in seconds]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return values if all(isfinite(value) and value >= 0 for value in values) else None


def _default_folder() -> Path | None:
    return default_cache().beside(f"tuning-v{VERSION}")
