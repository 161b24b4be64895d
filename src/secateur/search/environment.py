"""Roll-outs as an environment of gymnasium: one step a decision, the reward at the last one."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from secateur.search.problem import State
from secateur.search.rollouts import Rollouts


class Environment(gymnasium.Env[State, NDArray[np.float32]]):
    """Every reset begins the next roll-out; what an action came to is `stored` in the info of its step."""

    def __init__(self, rollouts: Rollouts) -> None:
        self.rollouts = rollouts
        problem = rollouts.problem
        self.steps = len(problem.names)
        self.observation_space = spaces.Box(0.0, np.inf, (problem.width,), np.float32)
        self.action_space = spaces.Box(problem.low, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[State, dict[str, Any]]:
        super().reset(seed=seed)
        return self.rollouts.begin(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[State, float, bool, bool, dict[str, Any]]:
        state, stored, reward = self.rollouts.act(float(action[0]))
        return state, reward or 0.0, reward is not None, False, {"stored": stored}
