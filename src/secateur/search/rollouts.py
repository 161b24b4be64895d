"""Roll-outs: decisions one after the other, and one judgement of the whole table at the end.

What the log holds of an earlier run is carried out again from there: the same actions, the same accuracy, nobody is
asked. A learner that looks on learns what it had learned, and goes on as if nothing had happened.
"""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from secateur.errors import SparsityError
from secateur.progress import Tracker
from secateur.search.log import Rollout, RolloutLog
from secateur.search.problem import Problem, State

Evaluate = Callable[[Mapping[str, float]], float]


class Rollouts:
    """The roll-out that goes on, and the log of those before.

    evaluate    table -> accuracy, a fraction; may use random numbers as it likes
    """

    def __init__(self, problem: Problem, evaluate: Evaluate, log: RolloutLog, progress: Tracker) -> None:
        self.problem = problem
        self.number = -1
        self._evaluate, self._log, self._progress = evaluate, log, progress
        self._known = list(log.rows)
        self._actions: list[float] = []
        self._shares: list[float] = []

    def begin(self) -> State:
        """The next roll-out; its first state."""
        self.number += 1
        self._actions, self._shares = [], []
        return self.problem.state(())

    def act(self, action: float) -> tuple[State, float, float | None]:
        """Decide on the next layer. returns the next state, the action to remember, and the reward after the last.

        raises    SparsityError  an accuracy that is no fraction, and what evaluating raises
        """
        known = self._known[self.number] if self.number < len(self._known) else None
        if known is not None:
            action = known.actions[len(self._actions)]
        share = self.problem.share(self._shares, action)
        self._actions.append(action)
        self._shares.append(share)
        stored = self.problem.stored(action, share)
        done = len(self._shares) == len(self.problem.names)
        return self.problem.state(self._shares), stored, self._finish(known) if done else None

    def _finish(self, known: Rollout | None) -> float:
        if known is not None:
            self._progress.advance()
            return known.reward
        table = dict(zip(self.problem.names, self._shares, strict=True))
        with same_random_numbers():
            accuracy = float(self._evaluate(table))
        if not 0.0 <= accuracy <= 1.0:
            raise SparsityError(f"roll-out {self.number}: an accuracy is a fraction from 0 to 1, not {accuracy}.")
        reward = self.problem.reward(self._shares, accuracy)
        self._log.add(Rollout(self.number, tuple(self._actions), table, accuracy, reward))
        self._progress.advance(accuracy=accuracy, reward=reward, best=max(row.reward for row in self._log.rows))
        return reward


@contextlib.contextmanager
def same_random_numbers() -> Iterator[None]:
    """Whatever the block draws, the generators of Python, numpy and torch are as before when it ends."""
    python, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
