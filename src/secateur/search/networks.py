"""Actor and critic of the search, as a policy of stable-baselines3.

    block     linear to 64, layer norm, ReLU
    actor     two blocks on the state, linear, sigmoid                     the action between its bounds
    critic    a block on the state; with the action, two blocks, linear    what a state and an action are worth

stable-baselines3 scales actions to [-1, 1]: the actor gives 2 sigmoid - 1, the critic takes (1 + action) / 2.
A third network explores: the actor with noise on its parameters. Source: PocketFlow (its DDPG agent).
"""

from typing import Any

import torch
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.td3.policies import Actor, TD3Policy
from torch import Tensor, nn

WIDTH = 64


def block(inputs: int) -> list[nn.Module]:
    """Linear, layer norm, ReLU."""
    return [nn.Linear(inputs, WIDTH), nn.LayerNorm(WIDTH), nn.ReLU()]


class NormActor(Actor):
    """State -> action in [-1, 1]."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.mu = nn.Sequential(*block(self.features_dim), *block(WIDTH), nn.Linear(WIDTH, 1), _Squash())


class NormCritic(ContinuousCritic):
    """State and action -> value; one critic."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.qf0 = _Value(options["features_dim"])
        self.q_networks = [self.qf0]


class NormPolicy(TD3Policy):
    """Acts with the explorer, learns with actor and critic."""

    explorer: Actor

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.explorer = self.make_actor()
        self.explorer.set_training_mode(False)
        self.perturb_(0.0)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        return NormActor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        return NormCritic(**self._update_features_extractor(self.critic_kwargs, features_extractor)).to(self.device)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        return self.explorer(observation)

    @torch.no_grad()
    def perturb_(self, deviation: float) -> None:
        """Make the explorer the actor with Gaussian noise on its parameters, those of layer norms left alone."""
        norms = {
            f"{name}.{part}"
            for name, module in self.actor.named_modules()
            if isinstance(module, nn.LayerNorm)
            for part in ("weight", "bias")
        }
        theirs = dict(self.actor.named_parameters())
        for name, parameter in self.explorer.named_parameters():
            noise = torch.zeros_like(parameter) if name in norms else deviation * torch.randn_like(parameter)
            parameter.copy_(theirs[name] + noise)


class _Squash(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * torch.sigmoid(x) - 1.0


class _Value(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self._features = features
        self.first = nn.Sequential(*block(features))
        self.rest = nn.Sequential(*block(WIDTH + 1), *block(WIDTH), nn.Linear(WIDTH, 1))

    def forward(self, x: Tensor) -> Tensor:
        states, actions = x[:, : self._features], x[:, self._features :]
        return self.rest(torch.cat([self.first(states), (1.0 + actions) / 2.0], dim=1))
