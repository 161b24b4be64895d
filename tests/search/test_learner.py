"""What the learner is made of: networks, noise, memory, and when it learns."""

import pytest

pytest.importorskip("stable_baselines3", reason="needs stable-baselines3 (pip install 'secateur[search]')")
pytest.importorskip("gymnasium", reason="needs gymnasium (pip install 'secateur[search]')")

import numpy as np
import torch
from gymnasium.utils.env_checker import check_env
from torch import nn

from secateur.progress import track
from secateur.recipe import LevelSearch
from secateur.search import LevelDecision, LevelProblem
from secateur.search.environment import Environment
from secateur.search.learner import Learner, deviation_at
from secateur.search.log import RolloutLog
from secateur.search.rollouts import Rollouts

PROBLEM = LevelProblem(tuple(LevelDecision(f"l{i}", (4, 4), n) for i, n in enumerate((100, 300, 200))), 0.5)


@pytest.fixture
def environment(tmp_path):
    with track(None, "test") as progress:
        accuracies = iter(np.linspace(0.2, 0.9, 1000))
        yield Environment(
            Rollouts(PROBLEM, lambda table: next(accuracies), RolloutLog(tmp_path, {}, PROBLEM.names), progress)
        )


def learner_of(environment, **changes):
    return Learner(environment, LevelSearch(**{"rollouts": 12, "warmup": 4, **changes}), 0)


def test_the_environment_is_one_of_gymnasium(environment):
    check_env(environment, skip_render_check=True, skip_close_check=True)


def test_a_roll_out_has_its_reward_at_the_end(environment):
    environment.reset()
    steps = [environment.step(np.array([0.5], np.float32)) for _ in range(3)]
    assert [(step[1], step[2]) for step in steps] == [(0.0, False), (0.0, False), (pytest.approx(0.2), True)]


def test_networks(environment):
    policy = learner_of(environment).policy
    kinds = [type(module).__name__ for module in policy.actor.mu]
    assert kinds == ["Linear", "LayerNorm", "ReLU"] * 2 + ["Linear", "_Squash"]
    assert [m.out_features for m in policy.actor.mu if isinstance(m, nn.Linear)] == [64, 64, 1]
    value = policy.critic.qf0
    assert [m.in_features for m in value.modules() if isinstance(m, nn.Linear)] == [10, 65, 64, 64]
    assert sum(isinstance(m, nn.LayerNorm) for m in value.modules()) == 3
    # What stable-baselines3 scales to [-1, 1] is a sigmoid between the bounds of the action.
    states = torch.rand(5, 10)
    logits = policy.actor.mu[:-1](states)
    action = policy.unscale_action(policy.actor(states).detach().numpy())
    np.testing.assert_allclose(action, torch.sigmoid(logits).detach().numpy(), atol=1e-6)
    targets = {id(p) for p in policy.actor_target.parameters()}
    assert not targets & {id(p) for p in policy.actor.parameters()}


def test_settings_of_the_source(environment):
    learner = learner_of(environment)
    assert (learner.tau, learner.gamma, learner.batch_size, learner.buffer_size) == (0.01, 0.9, 64, 3 * 4)
    rates = {group["lr"] for o in (learner.actor.optimizer, learner.critic.optimizer) for group in o.param_groups}
    assert rates == {1e-3}


def test_learning_starts_with_a_full_memory_and_updates_once_a_decision(environment, monkeypatch):
    learner, updates = learner_of(environment), []
    original = Learner.train

    def train(self, gradient_steps, batch_size=64):
        updates.append((self.num_timesteps, gradient_steps, self.replay_buffer.full))
        original(self, gradient_steps, batch_size)

    monkeypatch.setattr(Learner, "train", train)
    learner.explore()
    assert updates == [(3 * rollout, 3, True) for rollout in range(4, 13)]


def test_all_transitions_carry_the_final_reward_less_its_mean(environment):
    learner = learner_of(environment, rollouts=5, warmup=4)
    learner.explore()
    rewards = np.linspace(0.2, 0.9, 1000)[:5]
    mean, expected = rewards[0], []
    for reward in rewards:
        expected.append(reward - mean)
        mean = 0.95 * mean + 0.05 * reward
    # Five roll-outs of three decisions went into a memory of four: the last one overwrote the first.
    held = learner.replay_buffer.rewards[:, 0].reshape(4, 3)
    np.testing.assert_allclose(held, np.repeat([[e] for e in (expected[4], *expected[1:4])], 3, axis=1), atol=1e-6)
    assert learner.replay_buffer.dones[:, 0].tolist() == [0, 0, 1] * 4
    assert learner.replay_buffer.mean == pytest.approx(mean)


def test_the_memory_holds_actions_as_the_problem_says(environment, monkeypatch):
    monkeypatch.setattr(LevelProblem, "stored", lambda self, action, share: 0.75)
    learner = learner_of(environment, rollouts=5, warmup=4)
    learner.explore()
    np.testing.assert_allclose(learner.replay_buffer.actions, 0.5)  # .75 of [0, 1] is .5 of [-1, 1]


def test_deviations():
    assert [deviation_at(k, 50, 200) for k in (0, 49, 50)] == [1.0, 1.0, 1.0]
    assert deviation_at(199, 50, 200) == pytest.approx(1e-5)
    ratios = [deviation_at(k + 1, 50, 200) / deviation_at(k, 50, 200) for k in range(50, 199)]
    np.testing.assert_allclose(ratios, 1e-5 ** (1 / 149), rtol=1e-9)
    assert deviation_at(4, 4, 5) == 1.0


def test_noise_spares_layer_norms(environment):
    policy = learner_of(environment).policy
    actor, explorer = dict(policy.actor.named_parameters()), dict(policy.explorer.named_parameters())
    assert all(torch.equal(actor[name], explorer[name]) for name in actor)
    policy.perturb_(1.0)
    moved = {name for name in actor if not torch.equal(actor[name], explorer[name])}
    assert moved == {f"mu.{place}.{part}" for place in (0, 3, 6) for part in ("weight", "bias")}
    noise = torch.cat([(explorer[name] - actor[name]).detach().flatten() for name in moved])
    assert abs(float(noise.mean())) < 0.05 and abs(float(noise.std()) - 1) < 0.05


def test_noise_on_actions(environment):
    learner = learner_of(environment, noise="actions")
    learner.deviation = 0.1
    drawn = np.array([learner._noise()()[0] for _ in range(2000)])
    assert drawn.std() == pytest.approx(0.2, rel=0.1)  # .1 of [0, 1] is .2 of [-1, 1]


@pytest.mark.parametrize(("deviation", "factor"), [(1.0, 1 / 1.03), (1e-6, 1.03)])
def test_adaptive_noise_moves_towards_its_distance(environment, deviation, factor):
    learner = learner_of(environment, noise="adaptive", rollouts=6)
    learner.explore()
    learner.deviation = deviation
    learner.train(1)
    assert learner.deviation == pytest.approx(deviation * factor)
