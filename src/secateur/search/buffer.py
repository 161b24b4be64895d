"""The memory of the learner: all transitions of a roll-out carry what its table was worth.

    reward of every transition of roll-out k = R_k - m_{k-1}       m_k = .95 m_{k-1} + .05 R_k,  m_0 = R_1

so that transitions wait until the roll-out is over. The action remembered is the one that the problem says.
Source: PocketFlow (its DDPG agent); the mean starts with the first reward, our own choice.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer

DECAY = 0.95


class RolloutBuffer(ReplayBuffer):
    """Whole roll-outs; one environment."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.mean: float | None = None
        self._waiting: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], list[dict[str, Any]]]] = []

    def add(
        self,
        obs: NDArray[Any],
        next_obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Keep a transition back; with the last one of a roll-out, store them all."""
        self._waiting.append((obs, next_obs, self._scaled(infos[0]["stored"]), done, infos))
        if not done[0]:
            return
        final = float(reward[0])
        mean = final if self.mean is None else self.mean
        for before, after, taken, ended, notes in self._waiting:
            super().add(before, after, taken, np.array([final - mean], np.float32), ended, notes)
        self._waiting = []
        self.mean = DECAY * mean + (1.0 - DECAY) * final

    def _scaled(self, action: float) -> NDArray[np.float32]:
        """From the bounds of the action to [-1, 1]."""
        assert isinstance(self.action_space, spaces.Box)
        low, high = float(self.action_space.low[0]), float(self.action_space.high[0])
        return np.array([[2.0 * (action - low) / (high - low) - 1.0]], np.float32)
