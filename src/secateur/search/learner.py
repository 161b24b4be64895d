"""Deep deterministic policy gradient on roll-outs.

    tau .01, gamma .9, Adam 1e-3, batches of 64; memory of decisions * warm-up transitions, learning from it when it is
    full, after every roll-out as many updates as it had decisions
    parameters   Gaussian noise on the actor's parameters, deviation 1, then falling to 1e-5 geometrically over the
                 roll-outs after the warm-up
    adaptive     after the warm-up the deviation is divided or multiplied by 1.03 at every update, so that the actions
                 of actor and explorer are .01 apart on average
    actions      the same deviations on the actions themselves

Source: Lillicrap et al. 2016 (DDPG), by stable-baselines3; Plappert et al. 2018 (parameter noise); PocketFlow
(constants, one reward for all transitions of a roll-out).
"""

from typing import cast

import numpy as np
import torch
from stable_baselines3 import DDPG
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq
from stable_baselines3.common.vec_env import VecEnv

from secateur.recipe import Search
from secateur.search.buffer import RolloutBuffer
from secateur.search.environment import Environment
from secateur.search.networks import NormPolicy

FIRST_DEVIATION, LAST_DEVIATION = 1.0, 1e-5
DISTANCE, RATE = 0.01, 1.03


def deviation_at(rollout: int, warmup: int, rollouts: int) -> float:
    """Deviation of the noise in a roll-out, counted from 0: 1 until the warm-up is over, 1e-5 in the last one."""
    steps = rollouts - 1 - warmup
    done = max(rollout - warmup, 0) / steps if steps > 0 else 0.0
    return FIRST_DEVIATION * (LAST_DEVIATION / FIRST_DEVIATION) ** done


class Learner(DDPG):
    """DDPG that explores as the settings say; `explore` is all that `learn` adds to it."""

    def __init__(self, environment: Environment, settings: Search, seed: int) -> None:
        memory = environment.steps * settings.warmup
        self.settings = settings
        self.deviation = FIRST_DEVIATION
        self._shown = environment
        super().__init__(
            NormPolicy,
            environment,
            learning_rate=1e-3,
            buffer_size=memory,
            learning_starts=memory - 1,
            batch_size=64,
            tau=0.01,
            gamma=0.9,
            train_freq=(1, "episode"),
            gradient_steps=-1,
            replay_buffer_class=RolloutBuffer,
            seed=seed,
            device="cpu",
        )

    def explore(self) -> None:
        """Run all roll-outs."""
        self.learn(self.settings.rollouts * self._shown.steps, log_interval=None)  # type: ignore[arg-type]

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """One roll-out with noise of its own."""
        if self.settings.noise != "adaptive":
            done = self.num_timesteps // self._shown.steps
            self.deviation = deviation_at(done, self.settings.warmup, self.settings.rollouts)
        if self.settings.noise == "actions":
            action_noise = self._noise()
            self._networks.perturb_(0.0)
        else:
            self._networks.perturb_(self.deviation)
        # The explorer acts from the first roll-out on; uniform actions, which 0 switches off, are not asked for.
        return super().collect_rollouts(env, callback, train_freq, replay_buffer, action_noise, 0, log_interval)

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Updates, one by one where the noise is adapted after each."""
        if self.settings.noise != "adaptive":
            super().train(gradient_steps, batch_size)
            return
        for _ in range(gradient_steps):
            super().train(1, batch_size)
            self.deviation *= 1 / RATE if self._distance(batch_size) > DISTANCE else RATE

    @torch.no_grad()
    def _distance(self, batch_size: int) -> float:
        """Mean distance between the actions of actor and explorer, in units of actions."""
        assert self.replay_buffer is not None
        states = self.replay_buffer.sample(batch_size).observations
        self._networks.perturb_(self.deviation)
        apart = (self.actor(states) - self._networks.explorer(states)).abs().mean()
        return float(apart) * self._half_range

    def _noise(self) -> ActionNoise:
        """Gaussian noise of the present deviation; stable-baselines3 adds it to actions scaled to [-1, 1]."""
        scaled = np.full(1, self.deviation / self._half_range, np.float32)
        return NormalActionNoise(np.zeros(1, np.float32), scaled)

    @property
    def _networks(self) -> NormPolicy:
        return cast(NormPolicy, self.policy)

    @property
    def _half_range(self) -> float:
        return (1.0 - self._shown.rollouts.problem.low) / 2.0
