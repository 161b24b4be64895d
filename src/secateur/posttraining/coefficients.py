"""Coefficients of layers, searched around the dynamic programme: what sums of layer errors do not see.

    min over a of KL(dense, stitched(a))        stitched(a): sum_l a_l e[l, k_l] least within the target

1. Trial 0 is a = 1, the plain choice; then random a, 2^u with u uniform in (-3, 3).
2. From the best so far, a share of the layers gets new coefficients; better ones stay.
3. When a number of trials in a row gained nothing the share is halved; below one layer it starts again at the first.

Every trial is one stitched network on calibration images, whose divergence is kept: equal choices are measured once,
and a killed search goes through its trials again without measuring and goes on. The same seed gives the same trials.

Source: the search of SPDY (Frantar & Alistarh 2022, section 4.2); ranges and restarts are our own design.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from secateur.cache import Cache, key_of
from secateur.errors import PosttrainingError
from secateur.posttraining.database import Database
from secateur.posttraining.losses import Batches, Divergence
from secateur.posttraining.stitch import StitchSettings, apply_, solve
from secateur.posttraining.stitched import Stitched
from secateur.posttraining.subject import Subject
from secateur.posttraining.target import Target
from secateur.progress import track

OCTAVES = 3.0


@dataclass(frozen=True)
class SearchSettings:
    """How coefficients are searched.

    trials     how many choices are looked at, the plain one first
    random     how many of them have coefficients at random
    share      of the layers that change together at first
    patience   trials without gain after which the share is halved
    seconds    time for measuring; None: all trials are made. The plain choice is always measured
    """

    trials: int = 100
    random: int = 20
    share: float = 0.3
    patience: int = 10
    seconds: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trials < 1 or self.random < 0 or self.patience < 1 or not 0.0 < self.share <= 1.0:
            raise PosttrainingError(
                f"{self}: at least 1 trial and a patience of 1 are needed, and a share above 0 and up to 1."
            )


@dataclass(frozen=True)
class Trial:
    """A choice that was looked at; `new` where it was better than all before."""

    number: int
    divergence: float
    new: bool


@dataclass(frozen=True)
class Found:
    """The best choice.

    plain           divergence of the plain choice
    measured        trials that were measured, repeated choices left out
    """

    stitched: Stitched
    coefficients: Mapping[str, float]
    divergence: float
    plain: float
    trials: tuple[Trial, ...]
    measured: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "stitched": self.stitched.to_dict(), "coefficients": dict(self.coefficients)}

    def __str__(self) -> str:
        return (
            f"divergence from the dense network {self.divergence:.4g}, {self.plain:.4g} with all coefficients 1; "
            f"{len(self.trials)} trials, {self.measured} choices measured"
        )


def search_coefficients(
    subject: Subject,
    database: Database,
    target: Target,
    batches: Batches,
    stitching: StitchSettings | None = None,
    settings: SearchSettings | None = None,
    *,
    prepare: Callable[[], None] | None = None,
    folder: Path | str | None = None,
) -> Found:
    """The choice for `target` with the least divergence from the dense network that the search finds.

    subject    dense; afterwards it holds the weights of the best choice, without masks
    prepare    called before every measurement, when the weights are in: new statistics of the norms, for instance
    folder     of measurements that are kept, one for each way to prepare; by default in that of the database
    raises     as `solve`
    """
    stitching, settings = stitching or StitchSettings(), settings or SearchSettings()
    divergence = Divergence(subject, batches)
    cache = Cache(Path(folder) if folder is not None else database.folder / "divergences")
    names = [name for name, own in database.layers.items() if own.key and name not in stitching.excluded]
    seen: dict[str, float] = {}
    started, done = time.monotonic(), 0

    def value_of(stitched: Stitched) -> float | None:
        """None when there is no time left to measure it."""
        nonlocal done
        facts = [divergence.digest, database.key, sorted(stitched.choice.items()), prepare is not None]
        key = key_of(["divergence", *facts])
        if key not in seen:
            entry = cache.get(key)
            if entry is None:
                if seen and settings.seconds is not None and time.monotonic() - started > settings.seconds:
                    return None
                apply_(subject, database, stitched, masks=False)
                if prepare is not None:
                    prepare()
                entry = cache.put(key, {"divergence": min(divergence(), 1e6)})
            seen[key], done = float(entry.value["divergence"]), done + 1
        return seen[key]

    rng = np.random.default_rng(settings.seed)
    best: tuple[float, Stitched, np.ndarray] | None = None
    trials: list[Trial] = []
    plain, share, idle = math.inf, settings.share, 0
    with track(settings.trials, "coefficients") as progress:
        for number in range(settings.trials):
            if best is None:
                exponents = np.zeros(len(names))
            elif number <= settings.random:
                exponents = rng.uniform(-OCTAVES, OCTAVES, len(names))
            else:
                exponents = best[2].copy()
                changed = rng.permutation(len(names))[: max(1, round(share * len(names)))]
                exponents[changed] = rng.uniform(-OCTAVES, OCTAVES, len(changed))
            coefficients = dict(zip(names, (2.0**exponents).tolist(), strict=True))
            stitched = solve(database, target, settings=replace(stitching, coefficients=coefficients))
            value = value_of(stitched)
            if value is None:
                break
            new = best is None or value < best[0]
            if new:
                best, idle = (value, stitched, exponents), 0
            elif number > settings.random:
                idle += 1
                if idle >= settings.patience:
                    idle, share = 0, share / 2 if share * len(names) >= 2 else settings.share
            plain = value if number == 0 else plain
            trials.append(Trial(number, value, new))
            progress.advance(divergence=best[0] if best is not None else value)
    assert best is not None  # trial 0 is always measured
    apply_(subject, database, best[1], masks=False)
    if prepare is not None:
        prepare()
    found = dict(zip(names, (2.0 ** best[2]).tolist(), strict=True))
    return Found(best[1], found, best[0], plain, tuple(trials), done)
