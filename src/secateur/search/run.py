"""The verb `search`: the table of the highest reward among all that were tried.

    ddpg      Deep deterministic policy gradient, learner.py; needs the extra `search`
    random    every action uniform between its bounds: what a learner has to beat

Every roll-out is written when it is over. A search that was killed carries the written ones out again without asking
for their accuracy, learns from them what it had learned, and ends with the same table as if nothing had happened.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from secateur.errors import RecipeError
from secateur.progress import track
from secateur.recipe import Search
from secateur.search.log import Rollout, RolloutLog
from secateur.search.problem import Problem
from secateur.search.rollouts import Evaluate, Rollouts, same_random_numbers

PACKAGES = ("stable_baselines3", "gymnasium")
# What decides how a table is judged, not how tables are chosen, is for whoever judges to describe.
_CHOOSING = {"learner", "rollouts", "warmup", "noise"}


@dataclass(frozen=True)
class Found:
    """The best roll-out, the first of equals, and all of them in order."""

    best: Rollout
    rollouts: tuple[Rollout, ...]

    @property
    def table(self) -> dict[str, float]:
        return self.best.table


def search(
    problem: Problem,
    evaluate: Evaluate,
    folder: Path | str,
    settings: Search,
    *,
    seed: int = 0,
    depends_on: Mapping[str, Any] | None = None,
    writes: bool = True,
) -> Found:
    """Try `settings.rollouts` tables and keep the best.

    evaluate      table -> accuracy, a fraction
    folder        gets one file per roll-out; the same search goes on from there
    depends_on    plain JSON: what else the accuracies depend on; the log of something else is refused
    writes        False for all but one of several processes that search together
    raises        RecipeError    the extra `search` is not installed
                  ArtifactError  the folder holds another search;  and what evaluating raises
    """
    check_learner(settings)
    description = {
        "problem": problem.description(),
        "settings": settings.model_dump(mode="json", include=_CHOOSING),
        "seed": seed,
        "depends_on": dict(depends_on or {}),
    }
    log = RolloutLog(Path(folder), description, problem.names, writes)
    if len(log.rows) < settings.rollouts:
        with same_random_numbers(), track(settings.rollouts, "search") as progress:
            rollouts = Rollouts(problem, evaluate, log, progress)
            if settings.learner == "ddpg":
                from secateur.search.environment import Environment
                from secateur.search.learner import Learner

                Learner(Environment(rollouts), settings, seed).explore()
            else:
                _try_at_random(rollouts, settings.rollouts, seed)
    return Found(max(log.rows, key=lambda row: row.reward), tuple(log.rows))


def check_learner(settings: Search) -> None:
    """raises RecipeError when the packages that the learner needs are not installed"""
    missing = [name for name in PACKAGES if settings.learner == "ddpg" and importlib.util.find_spec(name) is None]
    if missing:
        raise RecipeError(
            f"the learner ddpg needs {' and '.join(missing)}, which are not installed: pip install 'secateur[search]', "
            "or choose learner: random."
        )


def _try_at_random(rollouts: Rollouts, count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    low, decisions = rollouts.problem.low, len(rollouts.problem.names)
    for _ in range(count):
        rollouts.begin()
        for action in generator.uniform(low, 1.0, decisions):
            rollouts.act(float(action))
